//! Health evaluation: computes findings from inputs that were collected at one moment.
//!
//! ```text
//! units, workers ──▶ watch ──▶ findings ─┐
//!                                        ▼
//! inputs, limits, now ──▶ one function per check ──▶ findings ──▶ report with the worst level
//!                                                                   │
//!                                  score of each provider ◀── degradation
//! ```
//!
//! Subjects of one check share one finding while they are healthy; each failing one has its own. A
//! check that could not be made is unknown, with the reason, and never healthy.

pub mod degradation;
mod finding;
mod host;
mod inputs;
mod level;
mod providers;
mod sources;
pub mod watch;
mod workers;

#[cfg(test)]
mod proptests;
#[cfg(test)]
mod tests;

pub(crate) use self::finding::{CRASH_LOOP, SESSION_TOO_LONG, UNIT_STATE_UNKNOWN, UNKNOWN};
pub use self::finding::{CheckKind, Finding, HealthCheckReport, Remedy};
pub use self::inputs::{
    BreakerObservation, CollectResult, CounterObservation, DiskThresholds, DiskUsage, HealthInputs,
    HealthLimits, HostMetrics, JournalErrors, ProxyPoolStatus, SourceObservation, Thresholds,
    findings_by_unit,
};
pub use self::level::HealthLevel;
pub use self::providers::evaluate_providers;

use crate::Timestamp;

/// Runs all checks.
#[must_use]
pub fn evaluate(inputs: &HealthInputs, limits: &HealthLimits, now: Timestamp) -> HealthCheckReport {
    let thresholds = &limits.thresholds;
    let findings = [
        workers::check_units(inputs),
        workers::check_workers(inputs, limits, now),
        sources::check_sources(inputs, limits, now),
        host::check_proxies(inputs.proxy_pool.as_ref(), thresholds),
        host::check_system(inputs, thresholds),
        host::check_archives(inputs),
        host::check_journal(inputs, thresholds),
    ];
    HealthCheckReport::new(findings.into_iter().flatten().collect(), now)
}

/// Returns the failing findings, or the healthy one if there are none.
fn or_healthy(failing: Vec<Finding>, healthy: impl FnOnce() -> Finding) -> Vec<Finding> {
    if failing.is_empty() { vec![healthy()] } else { failing }
}
