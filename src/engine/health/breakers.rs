//! What a breaker tells: how it stands, and when it opened and closed.

use crate::engine::alert::{Concern, Ending, Spell};
use crate::engine::breaker::{BreakerState, OpenPeriod, is_manual};
use crate::engine::health::BreakerSeen;
use crate::engine::health::concerns::unwell;
use crate::engine::sanitize_line;

/// What there is to be concerned about while it is not closed.
pub(super) fn concern(breaker: &BreakerSeen) -> Concern {
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
pub(super) fn spells(breaker: &BreakerSeen, follows: bool) -> impl Iterator<Item = Spell> {
    breaker.openings.iter().map(move |opening| spell(breaker, opening, follows))
}

fn spell(breaker: &BreakerSeen, opening: &OpenPeriod, follows: bool) -> Spell {
    let ended = opening.closed.as_ref().map(|closing| Ending {
        at: closing.at,
        severity: BreakerState::Closed.severity(),
        since: is_manual(&closing.reason).then(|| "a person closed its breaker".to_owned()),
    });
    Spell {
        concern: of(breaker, left_alone(&sanitize_line(&opening.reason))),
        no: opening.generation,
        began: opening.opened_at,
        ended,
        follows,
    }
}

fn of(breaker: &BreakerSeen, message: String) -> Concern {
    Concern {
        cause: unwell(),
        about: breaker.name.clone(),
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
