//! Documents that wait to be fetched: those of untried items, and those of items that failed before.

use std::collections::{BTreeSet, VecDeque};

use super::FetchTask;
use crate::ledger::{DueLimits, ItemRowId};

/// Fewer errands of a kind than this, and more are taken from the ledger.
const LOW_WATERMARK: usize = 256;

/// Items of a kind that are taken from the ledger at a time.
const REFILL_ITEMS_MAX: usize = 256;

/// Errands of untried items that go before one of an item that failed, where both wait: what never
/// failed is likely to succeed, and what failed must still come to an end.
const UNTRIED_PER_RETRY: u32 = 3;

/// What is to be taken from the ledger.
#[derive(Debug, Eq, PartialEq)]
pub(in crate::worker) struct RefillRequest {
    pub(in crate::worker) limits: DueLimits,
    /// The items to pass over.
    pub(in crate::worker) skip: BTreeSet<ItemRowId>,
}

/// Items in the ledger that were not taken yet.
#[derive(Clone, Copy, Debug)]
struct LedgerBacklog {
    has_untried: bool,
    has_retries: bool,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum QueueEnd {
    Front,
    Back,
}

#[derive(Debug)]
pub(super) struct FetchQueue {
    untried: VecDeque<FetchTask>,
    /// Documents that were throttled: they come after all others that never failed.
    throttled: VecDeque<FetchTask>,
    retries: VecDeque<FetchTask>,
    /// The end of the untried from which the last one was taken.
    last_end: QueueEnd,
    /// Retries in flight.
    retries_in_flight: usize,
    /// Untried errands that were taken since the last retry.
    untried_streak: u32,
    backlog: LedgerBacklog,
    /// What was asked for last.
    requested: DueLimits,
}

impl FetchQueue {
    pub(super) fn new() -> Self {
        Self {
            untried: VecDeque::new(),
            throttled: VecDeque::new(),
            retries: VecDeque::new(),
            last_end: QueueEnd::Back,
            retries_in_flight: 0,
            untried_streak: 0,
            backlog: LedgerBacklog { has_untried: true, has_retries: true },
            requested: DueLimits { untried: 0, retries: 0 },
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        !self.has_untried_queued() && self.retries.is_empty()
    }

    /// Whether untried items wait here, or may be in the ledger.
    pub(super) fn has_untried(&self) -> bool {
        self.backlog.has_untried || self.has_untried_queued()
    }

    pub(super) fn push(&mut self, errand: FetchTask) {
        let queue = if errand.is_retry { &mut self.retries } else { &mut self.untried };
        queue.push_back(errand);
    }

    pub(super) fn push_throttled(&mut self, errand: FetchTask) {
        let queue = if errand.is_retry { &mut self.retries } else { &mut self.throttled };
        queue.push_back(errand);
    }

    /// Whether an errand may be taken with `slots` in all. Retries hold at most half of them, so
    /// that slow failures leave room for new mail and for a look.
    pub(super) fn has_next(&self, slots: usize) -> bool {
        self.has_untried_queued() || self.has_retry_slot(slots)
    }

    pub(super) fn pop(&mut self, slots: usize) -> Option<FetchTask> {
        let is_turn = !self.has_untried_queued() || self.untried_streak >= UNTRIED_PER_RETRY;
        if is_turn && self.has_retry_slot(slots) {
            self.untried_streak = 0;
            self.retries_in_flight += 1;
            return self.retries.pop_front();
        }
        self.untried_streak = self.untried_streak.saturating_add(1);
        self.pop_untried()
    }

    /// Notes that an errand is answered.
    pub(super) fn record_completed(&mut self, errand: &FetchTask) {
        self.retries_in_flight =
            self.retries_in_flight.saturating_sub(usize::from(errand.is_retry));
    }

    /// Forgets what is in flight, too.
    pub(super) fn clear(&mut self) {
        *self = Self::new();
    }

    /// Takes out whatever waits.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = FetchTask> + use<> {
        self.reset_backlog();
        let [untried, throttled, retries] =
            [&mut self.untried, &mut self.throttled, &mut self.retries].map(std::mem::take);
        untried.into_iter().chain(throttled).chain(retries)
    }

    /// The ledger may have untried items again.
    pub(super) fn reset_backlog(&mut self) {
        self.backlog = LedgerBacklog { has_untried: true, has_retries: true };
    }

    /// Whether there is room for what the ledger is known to have.
    pub(super) fn has_room(&self) -> bool {
        (self.backlog.has_untried && self.untried.len() < LOW_WATERMARK)
            || (self.backlog.has_retries && self.retries.len() < LOW_WATERMARK)
    }

    /// How much of each kind there is room for.
    pub(super) fn request_limits(&mut self) -> DueLimits {
        let limit = |queue: &VecDeque<FetchTask>| {
            if queue.len() < LOW_WATERMARK { REFILL_ITEMS_MAX } else { 0 }
        };
        let (untried, retries) = (limit(&self.untried), limit(&self.retries));
        self.requested = DueLimits { untried, retries };
        self.requested
    }

    /// Notes how many items of each kind came; returns whether there may be more of them now.
    pub(super) fn record_loaded(&mut self, untried: usize, retries: usize) -> bool {
        // Where none was asked for, there may be some.
        self.backlog.has_untried = untried >= self.requested.untried;
        self.backlog.has_retries = retries >= self.requested.retries;
        self.backlog.has_untried || self.backlog.has_retries
    }

    fn has_untried_queued(&self) -> bool {
        !self.untried.is_empty() || !self.throttled.is_empty()
    }

    /// Takes from one end, then from the other. Bad messages often stand together, and a row of them
    /// that nothing else interrupts looks like a provider that is down.
    fn pop_untried(&mut self) -> Option<FetchTask> {
        let taken = match self.last_end {
            QueueEnd::Front => self.untried.pop_back(),
            QueueEnd::Back => self.untried.pop_front(),
        };
        self.last_end = match self.last_end {
            QueueEnd::Front => QueueEnd::Back,
            QueueEnd::Back => QueueEnd::Front,
        };
        taken.or_else(|| self.throttled.pop_front())
    }

    fn has_retry_slot(&self, slots: usize) -> bool {
        !self.retries.is_empty() && self.retries_in_flight < (slots / 2).max(1)
    }
}
