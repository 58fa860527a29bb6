//! The times that a breaker was not closed, as its newest changes tell them.

use super::{Change, ChangeMemory, Memory, Phase};
use crate::engine::Timestamp;

/// How many changes are remembered, for whoever looks only now and then.
pub(super) const CHANGES_KEPT: usize = 16;

/// What is remembered of a reason: the file holds all breakers, and has a limit.
const WHY_CHARS_MAX: usize = 160;

/// The reasons that only a person gives.
pub(super) const OPENED_BY_HAND: &str = "opened by hand";
pub(super) const CLOSED_BY_HAND: &str = "closed by hand";
pub(super) const RESET_BY_HAND: &str = "reset by hand";

/// One time that it was not closed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Opening {
    /// The number of the change that began it.
    pub no: u64,
    pub at: Timestamp,
    /// One line for a person.
    pub why: String,
    /// Absent while it lasts.
    pub closing: Option<Closing>,
}

/// The end of it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Closing {
    pub at: Timestamp,
    pub why: String,
}

/// Whether a person wanted this, by the reason of a change.
#[must_use]
pub fn is_by_hand(why: &str) -> bool {
    [OPENED_BY_HAND, CLOSED_BY_HAND, RESET_BY_HAND].contains(&why)
}

impl Memory {
    /// The times that it was not closed, as far as it remembers them, the newest last.
    #[must_use]
    pub fn openings(&self) -> Vec<Opening> {
        let mut openings: Vec<Opening> = Vec::new();
        for change in self.numbered() {
            let (from, to) = (Phase::from_name(&change.from), Phase::from_name(&change.to));
            let (at, why) = (Timestamp(change.at), change.why);
            if from == Some(Phase::Closed) {
                openings.push(Opening { no: change.no, at, why, closing: None });
            } else if to == Some(Phase::Closed)
                && let Some(last) = openings.last_mut().filter(|last| last.closing.is_none())
            {
                last.closing = Some(Closing { at, why });
            }
        }
        openings
    }

    /// The newest changes, the newest last. A program that does not know of them leaves only the last.
    pub(super) fn numbered(&self) -> Vec<ChangeMemory> {
        if !self.changes.is_empty() {
            return self.changes.clone();
        }
        let last = self.last_change.iter();
        last.map(|last| ChangeMemory { no: self.generation, ..last.clone() }).collect()
    }
}

/// Adds the newest change. Where there is no room, what lies between an opening and its end goes
/// first, so that long ones are still told from their beginning.
pub(super) fn note(changes: &mut Vec<Change>, newest: &Change) {
    while changes.len() >= CHANGES_KEPT {
        let is_between = |change: &Change| ![change.from, change.to].contains(&Phase::Closed);
        changes.remove(changes.iter().position(is_between).unwrap_or_default());
    }
    let why = newest.why.chars().take(WHY_CHARS_MAX).collect();
    changes.push(Change { why, ..newest.clone() });
}
