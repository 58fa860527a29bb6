//! The times that a breaker was not closed, as its newest changes tell them.

use super::{BreakerState, BreakerTransition, PersistedBreaker, PersistedTransition};
use crate::engine::Timestamp;

/// How many changes are remembered, for whoever looks only now and then.
pub(super) const TRANSITIONS_MAX: usize = 16;

/// What is remembered of a reason: the file holds all breakers, and has a limit.
const REASON_CHARS_MAX: usize = 160;

/// The reasons that only a person gives.
pub(super) const OPENED_MANUALLY: &str = "opened by hand";
pub(super) const CLOSED_MANUALLY: &str = "closed by hand";
pub(super) const RESET_MANUALLY: &str = "reset by hand";

/// One time that it was not closed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct OpenPeriod {
    /// The number of the change that began it.
    pub generation: u64,
    pub opened_at: Timestamp,
    /// One line for a person.
    pub reason: String,
    /// Absent while it lasts.
    pub closed: Option<CloseEvent>,
}

/// The end of it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CloseEvent {
    pub at: Timestamp,
    pub reason: String,
}

/// Whether a person wanted this, by the reason of a change.
#[must_use]
pub fn is_manual(why: &str) -> bool {
    [OPENED_MANUALLY, CLOSED_MANUALLY, RESET_MANUALLY].contains(&why)
}

impl PersistedBreaker {
    /// The times that it was not closed, as far as it remembers them, the newest last.
    #[must_use]
    pub fn open_periods(&self) -> Vec<OpenPeriod> {
        let mut openings: Vec<OpenPeriod> = Vec::new();
        for change in self.numbered_transitions() {
            let (from, to) =
                (BreakerState::from_name(&change.from), BreakerState::from_name(&change.to));
            let (at, why) = (Timestamp(change.at), change.reason);
            if from == Some(BreakerState::Closed) {
                openings.push(OpenPeriod {
                    generation: change.generation,
                    opened_at: at,
                    reason: why,
                    closed: None,
                });
            } else if to == Some(BreakerState::Closed)
                && let Some(last) = openings.last_mut().filter(|last| last.closed.is_none())
            {
                last.closed = Some(CloseEvent { at, reason: why });
            }
        }
        openings
    }

    /// The newest changes, the newest last. A program that does not know of them leaves only the last.
    pub(super) fn numbered_transitions(&self) -> Vec<PersistedTransition> {
        if !self.transitions.is_empty() {
            return self.transitions.clone();
        }
        let last = self.last_transition.iter();
        last.map(|last| PersistedTransition { generation: self.generation, ..last.clone() })
            .collect()
    }
}

/// Adds the newest change. Where there is no room, what lies between an opening and its end goes
/// first, so that long ones are still told from their beginning.
pub(super) fn push_transition(changes: &mut Vec<BreakerTransition>, newest: &BreakerTransition) {
    while changes.len() >= TRANSITIONS_MAX {
        let is_between =
            |change: &BreakerTransition| ![change.from, change.to].contains(&BreakerState::Closed);
        changes.remove(changes.iter().position(is_between).unwrap_or_default());
    }
    let why = newest.reason.chars().take(REASON_CHARS_MAX).collect();
    changes.push(BreakerTransition { reason: why, ..newest.clone() });
}
