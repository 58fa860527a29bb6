//! What a breaker tells: how it stands, and when it opened and closed.

use crate::engine::alert::{AlertCondition, Episode, Resolution};
use crate::engine::breaker::{BreakerState, OpenPeriod, is_manual};
use crate::engine::health::BreakerSeen;
use crate::engine::health::concerns::unwell;
use crate::engine::sanitize_line;

/// What there is to be concerned about while it is not closed.
pub(super) fn concern(breaker: &BreakerSeen) -> AlertCondition {
    let message = match breaker.phase {
        BreakerState::Open => left_alone(&sanitize_line(&breaker.why)),
        BreakerState::HalfOpen | BreakerState::Closed => {
            // That its time is over says nothing of what is amiss.
            let began = breaker.openings.last().map_or(&breaker.why, |opening| &opening.reason);
            format!("{}; now it is tried again", left_alone(&sanitize_line(began)))
        }
    };
    of(breaker, message)
}

/// The times that it was not closed. Those that follow from what is told anyway are not told.
pub(super) fn spells(breaker: &BreakerSeen, follows: bool) -> impl Iterator<Item = Episode> {
    breaker.openings.iter().map(move |opening| spell(breaker, opening, follows))
}

fn spell(breaker: &BreakerSeen, opening: &OpenPeriod, follows: bool) -> Episode {
    let ended = opening.closed.as_ref().map(|closing| Resolution {
        resolved_at: closing.at,
        severity: BreakerState::Closed.severity(),
        reason: is_manual(&closing.reason).then(|| "a person closed its breaker".to_owned()),
    });
    Episode {
        condition: of(breaker, left_alone(&sanitize_line(&opening.reason))),
        sequence: opening.generation,
        started_at: opening.opened_at,
        resolution: ended,
        is_inhibited: follows,
    }
}

fn of(breaker: &BreakerSeen, message: String) -> AlertCondition {
    AlertCondition {
        key: unwell(),
        subject: breaker.name.clone(),
        // One that is tried has not become better yet.
        severity: BreakerState::Open.severity(),
        message,
        advice: Some("see `cynosure breaker list`".to_owned()),
    }
}

fn left_alone(why: &str) -> String {
    if is_manual(why) {
        "left alone, since a person opened its breaker".to_owned()
    } else {
        format!("left alone by its breaker: {why}")
    }
}
