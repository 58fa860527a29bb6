//! A breaker, and what its file knows of it.

use super::sync::Ours;
use crate::engine::Timestamp;
use crate::engine::breaker::{
    Breaker, BreakerPermit, BreakerStatistics, BreakerTransition, PersistedBreaker,
};

#[derive(Debug)]
pub(super) struct Kept {
    pub(super) breaker: Breaker,
    /// The change that the file was last seen at.
    known: u64,
    /// What the file counts of what is counted here.
    saved: BreakerStatistics,
    /// What it will count when the write that is under way is over.
    sent: BreakerStatistics,
    /// The change that was sent with it.
    sent_at: u64,
    /// The call that was let through by name.
    pub(super) named: Option<BreakerPermit>,
}

impl Kept {
    /// One that the file knows nothing of.
    pub(super) fn new(breaker: Breaker) -> Self {
        let known = breaker.generation();
        let nothing = BreakerStatistics::default();
        Self { breaker, known, saved: nothing, sent: nothing, sent_at: known, named: None }
    }

    /// One that is as the file has it.
    pub(super) fn saved(breaker: Breaker) -> Self {
        let saved = breaker.statistics();
        Self { saved, sent: saved, ..Self::new(breaker) }
    }

    pub(super) fn has_changed(&self) -> bool {
        self.breaker.generation() != self.known
    }

    pub(super) fn has_counted(&self) -> bool {
        self.breaker.statistics() != self.saved
    }

    /// Whether another process was the last to change it, as far as can be told.
    pub(super) fn is_behind(&self, memory: &PersistedBreaker) -> bool {
        memory.generation != self.known && self.breaker.generation() == self.sent_at
    }

    pub(super) fn send_nothing(&mut self) {
        (self.sent, self.sent_at) = (self.saved, self.breaker.generation());
    }

    pub(super) fn send(&mut self) -> Ours {
        (self.sent, self.sent_at) = (self.breaker.statistics(), self.breaker.generation());
        let news = self.sent.saturating_sub(self.saved);
        Ours { memory: self.breaker.to_persisted(), known: self.known, news }
    }

    /// The file has what was sent, and counts what others have counted too.
    pub(super) fn was_saved(&mut self, memory: &PersistedBreaker) {
        let later = self.breaker.statistics().saturating_sub(self.sent);
        self.breaker.set_statistics(
            memory.statistics.saturating_add(later),
            Timestamp(memory.statistics_since),
        );
        self.known = memory.generation;
        self.saved = memory.statistics;
    }

    /// Another process was the last to change it; returns that change.
    pub(super) fn adopt(&mut self, theirs: Breaker) -> Option<BreakerTransition> {
        let later = self.breaker.statistics().saturating_sub(self.sent);
        let saved = theirs.statistics();
        let change =
            theirs.last_transition().filter(|last| self.breaker.last_transition() != Some(*last));
        let change = change.cloned();
        let is_the_same_count = theirs.statistics_since() == self.breaker.statistics_since();
        let (since, named) = (theirs.statistics_since(), self.named.take());
        *self = Self { named, ..Self::saved(theirs) };
        if is_the_same_count {
            self.breaker.set_statistics(saved.saturating_add(later), since);
        }
        change
    }
}
