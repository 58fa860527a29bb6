//! A breaker, and what its file knows of it.

use super::sync::Ours;
use crate::engine::Timestamp;
use crate::engine::breaker::{Breaker, Change, Memory, Permit, Statistics};

#[derive(Debug)]
pub(super) struct Kept {
    pub(super) breaker: Breaker,
    /// The change that the file was last seen at.
    known: u64,
    /// What the file counts of what is counted here.
    saved: Statistics,
    /// What it will count when the write that is under way is over.
    sent: Statistics,
    /// The change that was sent with it.
    sent_at: u64,
    /// The call that was let through by name.
    pub(super) named: Option<Permit>,
}

impl Kept {
    /// One that the file knows nothing of.
    pub(super) fn new(breaker: Breaker) -> Self {
        let known = breaker.generation();
        let nothing = Statistics::default();
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
    pub(super) fn is_behind(&self, memory: &Memory) -> bool {
        memory.generation != self.known && self.breaker.generation() == self.sent_at
    }

    pub(super) fn send_nothing(&mut self) {
        (self.sent, self.sent_at) = (self.saved, self.breaker.generation());
    }

    pub(super) fn send(&mut self) -> Ours {
        (self.sent, self.sent_at) = (self.breaker.statistics(), self.breaker.generation());
        let news = self.sent.minus(self.saved);
        Ours { memory: self.breaker.memory(), known: self.known, news }
    }

    /// The file has what was sent, and counts what others have counted too.
    pub(super) fn was_saved(&mut self, memory: &Memory) {
        let later = self.breaker.statistics().minus(self.sent);
        self.breaker.set_statistics(memory.statistics.plus(later), Timestamp(memory.counted_since));
        self.known = memory.generation;
        self.saved = memory.statistics;
    }

    /// Another process was the last to change it; returns that change.
    pub(super) fn adopt(&mut self, theirs: Breaker) -> Option<Change> {
        let later = self.breaker.statistics().minus(self.sent);
        let saved = theirs.statistics();
        let change = theirs.last_change().filter(|last| self.breaker.last_change() != Some(*last));
        let change = change.cloned();
        let is_the_same_count = theirs.counted_since() == self.breaker.counted_since();
        let (since, named) = (theirs.counted_since(), self.named.take());
        *self = Self { named, ..Self::saved(theirs) };
        if is_the_same_count {
            self.breaker.set_statistics(saved.plus(later), since);
        }
        change
    }
}
