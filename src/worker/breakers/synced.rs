//! A breaker, and what its file knows of it.

use super::sync::LocalState;
use crate::engine::Timestamp;
use crate::engine::breaker::{
    Breaker, BreakerPermit, BreakerStatistics, BreakerTransition, PersistedBreaker,
};

#[derive(Debug)]
pub(super) struct SyncedBreaker {
    pub(super) breaker: Breaker,
    /// The change that the file was last seen at.
    known_generation: u64,
    /// What the file counts of what is counted here.
    saved_counts: BreakerStatistics,
    /// What it will count when the write that is under way is over.
    sent_counts: BreakerStatistics,
    /// The change that was sent with it.
    sent_generation: u64,
    /// The call that was let through by name.
    pub(super) named_permit: Option<BreakerPermit>,
}

impl SyncedBreaker {
    /// One that the file knows nothing of.
    pub(super) fn new(breaker: Breaker) -> Self {
        let known = breaker.generation();
        let nothing = BreakerStatistics::default();
        Self {
            breaker,
            known_generation: known,
            saved_counts: nothing,
            sent_counts: nothing,
            sent_generation: known,
            named_permit: None,
        }
    }

    /// One that is as the file has it.
    pub(super) fn from_saved(breaker: Breaker) -> Self {
        let saved = breaker.statistics();
        Self { saved_counts: saved, sent_counts: saved, ..Self::new(breaker) }
    }

    pub(super) fn has_changed(&self) -> bool {
        self.breaker.generation() != self.known_generation
    }

    pub(super) fn has_new_counts(&self) -> bool {
        self.breaker.statistics() != self.saved_counts
    }

    /// Whether another process was the last to change it, as far as can be told.
    pub(super) fn is_behind(&self, memory: &PersistedBreaker) -> bool {
        memory.generation != self.known_generation
            && self.breaker.generation() == self.sent_generation
    }

    pub(super) fn mark_nothing_sent(&mut self) {
        (self.sent_counts, self.sent_generation) = (self.saved_counts, self.breaker.generation());
    }

    pub(super) fn take_local_state(&mut self) -> LocalState {
        (self.sent_counts, self.sent_generation) =
            (self.breaker.statistics(), self.breaker.generation());
        let news = self.sent_counts.saturating_sub(self.saved_counts);
        LocalState {
            state: self.breaker.to_persisted(),
            known_generation: self.known_generation,
            new_counts: news,
        }
    }

    /// The file has what was sent, and counts what others have counted too.
    pub(super) fn on_saved(&mut self, memory: &PersistedBreaker) {
        let later = self.breaker.statistics().saturating_sub(self.sent_counts);
        self.breaker.set_statistics(
            memory.statistics.saturating_add(later),
            Timestamp(memory.statistics_since),
        );
        self.known_generation = memory.generation;
        self.saved_counts = memory.statistics;
    }

    /// Another process was the last to change it; returns that change.
    pub(super) fn merge_from_peer(&mut self, theirs: Breaker) -> Option<BreakerTransition> {
        let later = self.breaker.statistics().saturating_sub(self.sent_counts);
        let saved = theirs.statistics();
        let change =
            theirs.last_transition().filter(|last| self.breaker.last_transition() != Some(*last));
        let change = change.cloned();
        let is_the_same_count = theirs.statistics_since() == self.breaker.statistics_since();
        let (since, named) = (theirs.statistics_since(), self.named_permit.take());
        *self = Self { named_permit: named, ..Self::from_saved(theirs) };
        if is_the_same_count {
            self.breaker.set_statistics(saved.saturating_add(later), since);
        }
        change
    }
}
