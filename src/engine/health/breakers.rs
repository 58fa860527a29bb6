//! Alert condition of a breaker, and its open periods as episodes.

use crate::engine::alert::{AlertCondition, Episode, Resolution};
use crate::engine::breaker::{BreakerState, OpenPeriod, is_manual};
use crate::engine::health::BreakerObservation;
use crate::engine::health::conditions::provider_degraded_key;
use crate::engine::sanitize_line;

/// Returns the condition of a breaker that is not closed.
pub(super) fn breaker_condition(breaker: &BreakerObservation) -> AlertCondition {
    let message = match breaker.state {
        BreakerState::Open => open_message(&sanitize_line(&breaker.reason)),
        BreakerState::HalfOpen | BreakerState::Closed => {
            // The reason of a half-open breaker is only that its time is over, not the cause.
            let began = breaker.openings.last().map_or(&breaker.reason, |opening| &opening.reason);
            format!("{}; now it is tried again", open_message(&sanitize_line(began)))
        }
    };
    open_breaker_condition(breaker, message)
}

/// Returns the open periods as episodes. `follows`: they only follow from another condition that
/// is notified, and are inhibited.
pub(super) fn breaker_episodes(
    breaker: &BreakerObservation,
    follows: bool,
) -> impl Iterator<Item = Episode> {
    breaker.openings.iter().map(move |opening| to_episode(breaker, opening, follows))
}

fn to_episode(breaker: &BreakerObservation, opening: &OpenPeriod, follows: bool) -> Episode {
    let ended = opening.closed.as_ref().map(|closing| Resolution {
        resolved_at: closing.at,
        severity: BreakerState::Closed.severity(),
        reason: is_manual(&closing.reason).then(|| "a person closed its breaker".to_owned()),
    });
    Episode {
        condition: open_breaker_condition(breaker, open_message(&sanitize_line(&opening.reason))),
        sequence: opening.generation,
        started_at: opening.opened_at,
        resolution: ended,
        is_inhibited: follows,
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

fn open_message(why: &str) -> String {
    if is_manual(why) {
        "left alone, since a person opened its breaker".to_owned()
    } else {
        format!("left alone by its breaker: {why}")
    }
}
