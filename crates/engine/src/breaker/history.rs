//! Open periods of a breaker, derived from its recorded transitions.

use super::{BreakerState, PersistedBreaker, PersistedTransition};
use crate::Timestamp;

/// Period from the time when a breaker opened until it closed.
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

impl PersistedBreaker {
    /// Returns the open periods that the recorded transitions cover, newest last.
    #[must_use]
    pub fn open_periods(&self) -> Vec<OpenPeriod> {
        let mut periods: Vec<OpenPeriod> = Vec::new();
        for transition in self.numbered_transitions() {
            let Some(to) = BreakerState::from_name(&transition.to) else { continue };
            let (at, reason) = (Timestamp(transition.at), transition.reason);
            let current = periods.last_mut().filter(|last| last.closed.is_none());
            let is_in_open_period = to.is_in_open_period(current.is_some());
            match (current, is_in_open_period) {
                (None, true) => periods.push(OpenPeriod {
                    generation: transition.generation,
                    opened_at: at,
                    reason,
                    closed: None,
                }),
                (Some(current), false) => current.closed = Some(CloseEvent { at, reason }),
                (Some(_), true) | (None, false) => {}
            }
        }
        periods
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
