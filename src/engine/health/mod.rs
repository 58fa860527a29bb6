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
mod concerns;
mod execution;
mod facts;
mod local;
mod sources;

#[cfg(test)]
mod endings;
#[cfg(test)]
mod events;
#[cfg(test)]
mod laws;
#[cfg(test)]
mod tests;

pub use self::check::{Area, Check, Report};
pub use self::concerns::concerns;
pub use self::facts::{
    Bounds, BreakerSeen, CountsSeen, DiskSeen, Errors, Facts, Known, Pool, SourceSeen, StateSeen,
    System, Thresholds, by_unit,
};
pub use self::sources::standings;

use crate::engine::Timestamp;

/// Judges everything.
#[must_use]
pub fn judge(facts: &Facts, bounds: &Bounds, now: Timestamp) -> Report {
    let thresholds = &bounds.thresholds;
    let checks = [
        execution::service(facts, bounds),
        execution::execution(facts, bounds, now),
        sources::sources(facts, bounds, now),
        local::proxies(facts.pool.as_ref(), thresholds),
        local::system(facts, thresholds),
        local::archives(facts),
        local::journal(facts, thresholds),
    ];
    Report::new(checks.into_iter().flatten().collect(), now)
}

/// What is amiss, or else that all is well.
fn or_well(amiss: Vec<Check>, well: impl FnOnce() -> Check) -> Vec<Check> {
    if amiss.is_empty() { vec![well()] } else { amiss }
}

/// `95 %`.
fn percent(share: f64) -> String {
    let percent = (share * 1000.0).round() / 10.0;
    if percent.fract() == 0.0 { format!("{percent:.0} %") } else { format!("{percent:.1} %") }
}

/// `1 source`, `3 sources`.
fn many(number: usize, noun: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {noun}{plural}")
}
