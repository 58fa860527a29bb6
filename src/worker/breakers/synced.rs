//! Circuit breaker with the state of its last synchronisation.

use cynosure_engine::Timestamp;
use cynosure_engine::breaker::{
    Breaker, BreakerPermit, BreakerStatistics, BreakerTransition, PersistedBreaker,
};

use super::sync::LocalState;

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
        let generation = breaker.generation();
        let no_counts = BreakerStatistics::default();
        Self {
            breaker,
            known_generation: generation,
            saved_counts: no_counts,
            sent_counts: no_counts,
            sent_generation: generation,
            named_permit: None,
        }
    }

    /// Creates one that equals the file.
    pub(super) fn from_saved(breaker: Breaker) -> Self {
        let saved_counts = breaker.statistics();
        Self { saved_counts, sent_counts: saved_counts, ..Self::new(breaker) }
    }

    pub(super) fn has_changed(&self) -> bool {
        self.breaker.generation() != self.known_generation
    }

    pub(super) fn has_new_counts(&self) -> bool {
        self.breaker.statistics() != self.saved_counts
    }

    /// Returns true if another process made the last change, as far as is known.
    pub(super) fn is_behind(&self, saved: &PersistedBreaker) -> bool {
        saved.generation != self.known_generation
            && self.breaker.generation() == self.sent_generation
    }

    pub(super) fn mark_nothing_sent(&mut self) {
        (self.sent_counts, self.sent_generation) = (self.saved_counts, self.breaker.generation());
    }

    pub(super) fn take_local_state(&mut self) -> LocalState {
        (self.sent_counts, self.sent_generation) =
            (self.breaker.statistics(), self.breaker.generation());
        let new_counts = self.sent_counts.saturating_sub(self.saved_counts);
        LocalState {
            state: self.breaker.to_persisted(),
            known_generation: self.known_generation,
            new_counts,
        }
    }

    /// Records that the file contains what was sent, and adds the counts of other processes.
    pub(super) fn on_saved(&mut self, saved: &PersistedBreaker) {
        let unsaved_counts = self.breaker.statistics().saturating_sub(self.sent_counts);
        self.breaker.set_statistics(
            saved.statistics.saturating_add(unsaved_counts),
            Timestamp(saved.statistics_since),
        );
        self.known_generation = saved.generation;
        self.saved_counts = saved.statistics;
    }

    /// Replaces the state by that of another process. Returns its change of state.
    pub(super) fn merge_from_peer(&mut self, peer: Breaker) -> Option<BreakerTransition> {
        let unsaved_counts = self.breaker.statistics().saturating_sub(self.sent_counts);
        let saved_counts = peer.statistics();
        let change =
            peer.last_transition().filter(|last| self.breaker.last_transition() != Some(*last));
        let change = change.cloned();
        let has_same_start = peer.statistics_since() == self.breaker.statistics_since();
        let (since, named_permit) = (peer.statistics_since(), self.named_permit.take());
        *self = Self { named_permit, ..Self::from_saved(peer) };
        if has_same_start {
            self.breaker.set_statistics(saved_counts.saturating_add(unsaved_counts), since);
        }
        change
    }
}
