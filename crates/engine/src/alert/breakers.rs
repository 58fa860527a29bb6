//! Finding about a breaker, and its open periods as episodes.

use crate::alert::{Episode, Resolution};
use crate::breaker::{BreakerState, OpenPeriod, is_manual};
use crate::health::{BreakerObservation, CheckKind, Finding, HealthLevel};
use crate::sanitize_line;

/// Kind of the finding about a provider that is not fully usable.
pub(super) const DEGRADED: &str = "degraded";

/// Returns the finding about a breaker in an open period.
pub(super) fn breaker_finding(breaker: &BreakerObservation) -> Finding {
    let message = match breaker.state {
        BreakerState::Open => open_message(&sanitize_line(&breaker.reason)),
        BreakerState::HalfOpen | BreakerState::Closed => {
            // The reason of a half-open breaker is only that its time is over, not the cause.
            let reason =
                breaker.open_periods.last().map_or(&breaker.reason, |period| &period.reason);
            format!("{}; it is half-open now", open_message(&sanitize_line(reason)))
        }
    };
    open_breaker_finding(breaker, message)
}

/// Returns the open periods as episodes. `is_inhibited` is true if they only follow from another
/// finding that is notified.
pub(super) fn breaker_episodes(
    breaker: &BreakerObservation,
    is_inhibited: bool,
) -> impl Iterator<Item = Episode> {
    breaker.open_periods.iter().map(move |period| to_episode(breaker, period, is_inhibited))
}

fn to_episode(breaker: &BreakerObservation, period: &OpenPeriod, is_inhibited: bool) -> Episode {
    let resolution = period.closed.as_ref().map(|close| Resolution {
        resolved_at: close.at,
        severity: BreakerState::Closed.severity(),
        reason: is_manual(&close.reason)
            .then(|| "its circuit breaker was closed manually".to_owned()),
    });
    Episode {
        finding: open_breaker_finding(breaker, open_message(&sanitize_line(&period.reason))),
        sequence: period.generation,
        started_at: period.opened_at,
        resolution,
        is_inhibited,
    }
}

fn open_breaker_finding(breaker: &BreakerObservation, message: String) -> Finding {
    // A half-open breaker has not recovered yet, so it is critical, too.
    Finding::new(CheckKind::Provider, DEGRADED, HealthLevel::Critical, message)
        .with_subject(&breaker.name)
        .with_advice("see `cynosure breaker list`")
}

fn open_message(reason: &str) -> String {
    if is_manual(reason) {
        "its circuit breaker was opened manually".to_owned()
    } else {
        format!("its circuit breaker opened: {reason}")
    }
}
