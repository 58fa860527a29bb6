//! Alert condition of a breaker, and its open periods as episodes.

use crate::engine::alert::{AlertCondition, AlertKey, Episode, Resolution};
use crate::engine::breaker::{BreakerState, OpenPeriod, is_manual};
use crate::engine::health::BreakerObservation;
use crate::engine::sanitize_line;

/// Component of the alert keys about a provider.
pub(super) const PROVIDER: &str = "provider";

/// Returns the condition of a breaker that is not closed.
pub(super) fn breaker_condition(breaker: &BreakerObservation) -> AlertCondition {
    let message = match breaker.state {
        BreakerState::Open => open_message(&sanitize_line(&breaker.reason)),
        BreakerState::HalfOpen | BreakerState::Closed => {
            // The reason of a half-open breaker is only that its time is over, not the cause.
            let reason =
                breaker.open_periods.last().map_or(&breaker.reason, |period| &period.reason);
            format!("{}; it is half-open now", open_message(&sanitize_line(reason)))
        }
    };
    open_breaker_condition(breaker, message)
}

/// Returns the open periods as episodes. `is_inhibited` is true if they only follow from another
/// condition that is notified.
pub(super) fn breaker_episodes(
    breaker: &BreakerObservation,
    is_inhibited: bool,
) -> impl Iterator<Item = Episode> {
    breaker.open_periods.iter().map(move |period| to_episode(breaker, period, is_inhibited))
}

/// Returns the alert key of a provider that is not fully usable.
pub(super) fn provider_degraded_key() -> AlertKey {
    AlertKey::new(PROVIDER, "degraded")
}

fn to_episode(breaker: &BreakerObservation, period: &OpenPeriod, is_inhibited: bool) -> Episode {
    let resolution = period.closed.as_ref().map(|close| Resolution {
        resolved_at: close.at,
        severity: BreakerState::Closed.severity(),
        reason: is_manual(&close.reason)
            .then(|| "its circuit breaker was closed manually".to_owned()),
    });
    Episode {
        condition: open_breaker_condition(breaker, open_message(&sanitize_line(&period.reason))),
        sequence: period.generation,
        started_at: period.opened_at,
        resolution,
        is_inhibited,
    }
}

fn open_breaker_condition(breaker: &BreakerObservation, message: String) -> AlertCondition {
    AlertCondition {
        key: provider_degraded_key(),
        subject: breaker.name.clone(),
        // A half-open breaker has not recovered yet.
        severity: BreakerState::Open.severity(),
        message,
        advice: Some("see `cynosure breaker list`".to_owned()),
    }
}

fn open_message(reason: &str) -> String {
    if is_manual(reason) {
        "its circuit breaker was opened manually".to_owned()
    } else {
        format!("its circuit breaker opened: {reason}")
    }
}
