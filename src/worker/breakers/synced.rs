//! Circuit breaker with the state of its last synchronisation.

use super::sync::LocalState;
use crate::engine::Timestamp;
use crate::engine::breaker::{
    Breaker, BreakerPermit, BreakerStatistics, BreakerTransition, PersistedBreaker,
};

#[derive(Debug)]
pub(super) struct SyncedBreaker {
    pub(super) breaker: Breaker,
    /// Generation last seen in the file.
    known_generation: u64,
    /// Counts of this process that the file includes.
    saved_counts: BreakerStatistics,
    /// Counts that the file includes after the write in progress.
    sent_counts: BreakerStatistics,
    /// Generation that this write contains.
    sent_generation: u64,
    /// Permit of the call made by name.
    pub(super) named_permit: Option<BreakerPermit>,
}

impl SyncedBreaker {
    /// Creates one that is not in the file yet.
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

    /// Creates one that equals the file.
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

    /// Returns true if another process made the last change, as far as is known.
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

    /// Records that the file contains what was sent, and adds the counts of other processes.
    pub(super) fn on_saved(&mut self, memory: &PersistedBreaker) {
        let later = self.breaker.statistics().saturating_sub(self.sent_counts);
        self.breaker.set_statistics(
            memory.statistics.saturating_add(later),
            Timestamp(memory.statistics_since),
        );
        self.known_generation = memory.generation;
        self.saved_counts = memory.statistics;
    }

    /// Replaces the state by that of another process. Returns its change of state.
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
