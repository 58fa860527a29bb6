//! Open periods of a breaker, derived from its recorded transitions.

use super::{BreakerState, BreakerTransition, PersistedBreaker, PersistedTransition};
use crate::engine::Timestamp;

/// Recorded transitions, for readers such as the monitor that read the state only occasionally.
pub(super) const TRANSITIONS_MAX: usize = 16;

/// Characters kept of a reason, because one size-limited file holds all breakers.
const REASON_CHARS_MAX: usize = 160;

/// Reasons of manual commands.
pub(super) const OPENED_MANUALLY: &str = "opened by hand";
pub(super) const CLOSED_MANUALLY: &str = "closed by hand";
pub(super) const RESET_MANUALLY: &str = "reset by hand";

/// Period during which a breaker was not closed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct OpenPeriod {
    /// Generation of the transition that began it.
    pub generation: u64,
    pub opened_at: Timestamp,
    /// One line, for display.
    pub reason: String,
    /// `None` while the period lasts.
    pub closed: Option<CloseEvent>,
}

/// End of an open period.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CloseEvent {
    pub at: Timestamp,
    pub reason: String,
}

/// Returns true if `why` is the reason of a manual command.
#[must_use]
pub fn is_manual(why: &str) -> bool {
    [OPENED_MANUALLY, CLOSED_MANUALLY, RESET_MANUALLY].contains(&why)
}

impl PersistedBreaker {
    /// Returns the open periods that the recorded transitions cover, newest last.
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

    /// Returns the recorded transitions with their generations, newest last. A file of an older
    /// version has only the last one.
    pub(super) fn numbered_transitions(&self) -> Vec<PersistedTransition> {
        if !self.transitions.is_empty() {
            return self.transitions.clone();
        }
        let last = self.last_transition.iter();
        last.map(|last| PersistedTransition { generation: self.generation, ..last.clone() })
            .collect()
    }
}

/// Appends a transition. At the limit, transitions within an open period are removed first, so
/// that long open periods keep their start.
pub(super) fn push_transition(changes: &mut Vec<BreakerTransition>, newest: &BreakerTransition) {
    while changes.len() >= TRANSITIONS_MAX {
        let is_between =
            |change: &BreakerTransition| ![change.from, change.to].contains(&BreakerState::Closed);
        changes.remove(changes.iter().position(is_between).unwrap_or_default());
    }
    let why = newest.reason.chars().take(REASON_CHARS_MAX).collect();
    changes.push(BreakerTransition { reason: why, ..newest.clone() });
}
