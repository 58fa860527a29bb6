//! Health evaluation: computes checks from inputs that were collected at one moment.
//!
//! ```text
//! inputs, limits, now ──▶ one function per kind ──▶ checks ──▶ report with the worst level
//! ```
//!
//! Subjects of one kind share one check while they are healthy; each failing one has its own. A
//! check that could not be made is unknown, with the reason, and never healthy. [`conditions`]
//! derives the alert conditions, one per cause.

mod breakers;
mod check;
mod conditions;
pub mod degradation;
mod host;
mod inputs;
mod sources;
pub mod watch;
mod workers;

#[cfg(test)]
mod proptests;
#[cfg(test)]
mod tests;

pub use self::check::{CheckKind, HealthCheck, HealthCheckReport};
pub use self::conditions::correlate;
pub use self::inputs::{
    BreakerObservation, CollectResult, CounterObservation, DiskThresholds, DiskUsage, HealthInputs,
    HealthLimits, HostMetrics, JournalErrors, ProxyPoolStatus, SourceObservation, StateObservation,
    Thresholds, findings_by_unit,
};
pub use self::sources::degradation_inputs;

use crate::engine::Timestamp;

/// Runs all checks.
#[must_use]
pub fn evaluate(inputs: &HealthInputs, limits: &HealthLimits, now: Timestamp) -> HealthCheckReport {
    let thresholds = &limits.thresholds;
    let checks = [
        workers::check_units(inputs, limits),
        workers::check_workers(inputs, limits, now),
        sources::check_sources(inputs, limits, now),
        host::check_proxies(inputs.proxy_pool.as_ref(), thresholds),
        host::check_system(inputs, thresholds),
        host::check_archives(inputs),
        host::check_journal(inputs, thresholds),
    ];
    HealthCheckReport::new(checks.into_iter().flatten().collect(), now)
}

/// Returns the failing checks, or the healthy check if there are none.
fn or_healthy(
    failing: Vec<HealthCheck>,
    healthy: impl FnOnce() -> HealthCheck,
) -> Vec<HealthCheck> {
    if failing.is_empty() { vec![healthy()] } else { failing }
}
