//! Judges the health of everything, from facts that were gathered at one moment.
//!
//! ```text
//! facts, bounds, now ──▶ one function per check ──▶ Check … ──▶ Report, as bad as the worst
//! ```
//!
//! What is well about many things alike is one check; what is amiss is one for each of them. A check
//! that could not be made is unknown, with the reason, and never healthy. What a person is told of
//! it is decided in `concerns`, where things that have one cause become one.

mod breakers;
mod check;
mod conditions;
mod host;
mod inputs;
mod sources;
mod workers;

#[cfg(test)]
mod breaker_episode_tests;
#[cfg(test)]
mod proptests;
#[cfg(test)]
mod resolution_tests;
#[cfg(test)]
mod tests;

pub use self::check::{CheckKind, HealthCheck, HealthCheckReport};
pub use self::conditions::correlate;
pub use self::inputs::{
    BreakerObservation, CollectResult, CounterObservation, DiskUsage, HealthInputs, HealthLimits,
    HostMetrics, JournalErrors, ProxyPoolStatus, SourceObservation, StateObservation, Thresholds,
    findings_by_unit,
};
pub use self::sources::degradation_inputs;

use crate::engine::Timestamp;

/// Judges everything.
#[must_use]
pub fn evaluate(facts: &HealthInputs, bounds: &HealthLimits, now: Timestamp) -> HealthCheckReport {
    let thresholds = &bounds.thresholds;
    let checks = [
        workers::check_units(facts, bounds),
        workers::check_workers(facts, bounds, now),
        sources::check_sources(facts, bounds, now),
        host::check_proxies(facts.proxy_pool.as_ref(), thresholds),
        host::check_system(facts, thresholds),
        host::check_archives(facts),
        host::check_journal(facts, thresholds),
    ];
    HealthCheckReport::new(checks.into_iter().flatten().collect(), now)
}

/// What is amiss, or else that all is well.
fn or_healthy(amiss: Vec<HealthCheck>, well: impl FnOnce() -> HealthCheck) -> Vec<HealthCheck> {
    if amiss.is_empty() { vec![well()] } else { amiss }
}

/// `95 %`.
fn percent(share: f64) -> String {
    let percent = (share * 1000.0).round() / 10.0;
    if percent.fract() == 0.0 { format!("{percent:.0} %") } else { format!("{percent:.1} %") }
}

/// `1 source`, `3 sources`.
fn pluralize(number: usize, noun: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {noun}{plural}")
}
