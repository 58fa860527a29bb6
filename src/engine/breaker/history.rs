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

/// Returns true if `reason` is that of a manual command.
#[must_use]
pub fn is_manual(reason: &str) -> bool {
    [OPENED_MANUALLY, CLOSED_MANUALLY, RESET_MANUALLY].contains(&reason)
}

impl PersistedBreaker {
    /// Returns the open periods that the recorded transitions cover, newest last.
    #[must_use]
    pub fn open_periods(&self) -> Vec<OpenPeriod> {
        let mut periods: Vec<OpenPeriod> = Vec::new();
        for transition in self.numbered_transitions() {
            let (from, to) = (
                BreakerState::from_name(&transition.from),
                BreakerState::from_name(&transition.to),
            );
            let (at, reason) = (Timestamp(transition.at), transition.reason);
            if from == Some(BreakerState::Closed) {
                periods.push(OpenPeriod {
                    generation: transition.generation,
                    opened_at: at,
                    reason,
                    closed: None,
                });
            } else if to == Some(BreakerState::Closed)
                && let Some(last) = periods.last_mut().filter(|last| last.closed.is_none())
            {
                last.closed = Some(CloseEvent { at, reason });
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

/// Appends a transition. At the limit, transitions within an open period are removed first, so
/// that long open periods keep their start.
pub(super) fn push_transition(
    transitions: &mut Vec<BreakerTransition>,
    newest: &BreakerTransition,
) {
    while transitions.len() >= TRANSITIONS_MAX {
        let is_between = |transition: &BreakerTransition| {
            ![transition.from, transition.to].contains(&BreakerState::Closed)
        };
        transitions.remove(transitions.iter().position(is_between).unwrap_or_default());
    }
    let reason = newest.reason.chars().take(REASON_CHARS_MAX).collect();
    transitions.push(BreakerTransition { reason, ..newest.clone() });
}
