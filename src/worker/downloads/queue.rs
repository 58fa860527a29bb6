//! Queue of fetch tasks: of untried items, and of items that failed before.

use std::collections::{BTreeSet, VecDeque};

use super::FetchTask;
use crate::ledger::{DueLimits, ItemRowId};

/// Number of queued tasks of a kind below which more are loaded from the ledger.
const LOW_WATERMARK: usize = 256;

/// Items of a kind that are loaded from the ledger at a time.
const REFILL_ITEMS_MAX: usize = 256;

/// Bytes of listed contents in the queue above which no more tasks are loaded: a row of a listing
/// may be as long as a page.
const QUEUED_CONTENT_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Tasks of untried items before each retry, if both wait: an item that never failed is likely to
/// succeed, and one that failed must still be finished.
const UNTRIED_PER_RETRY: u32 = 3;

/// Request for due items from the ledger.
#[derive(Debug, Eq, PartialEq)]
pub(in crate::worker) struct RefillRequest {
    pub(in crate::worker) limits: DueLimits,
    /// Items to skip.
    pub(in crate::worker) skip: BTreeSet<ItemRowId>,
}

/// Kinds of due items that the ledger may still have.
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
    /// Documents that were throttled, taken after all others that never failed.
    throttled: VecDeque<FetchTask>,
    retries: VecDeque<FetchTask>,
    /// Bytes of the listed contents of all queued tasks.
    content_bytes: usize,
    /// End of the untried tasks from which the last one was taken.
    last_end: QueueEnd,
    retries_in_flight: usize,
    /// Untried tasks that were taken since the last retry.
    untried_streak: u32,
    backlog: LedgerBacklog,
    /// Limits of the last request.
    requested: DueLimits,
}

impl FetchQueue {
    pub(super) fn new() -> Self {
        Self {
            untried: VecDeque::new(),
            throttled: VecDeque::new(),
            retries: VecDeque::new(),
            content_bytes: 0,
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

    /// Returns true if untried items are queued, or may be in the ledger.
    pub(super) fn has_untried(&self) -> bool {
        self.backlog.has_untried || self.has_untried_queued()
    }

    pub(super) fn push(&mut self, task: FetchTask) {
        self.content_bytes += task.content_bytes();
        let queue = if task.is_retry { &mut self.retries } else { &mut self.untried };
        queue.push_back(task);
    }

    pub(super) fn push_throttled(&mut self, task: FetchTask) {
        self.content_bytes += task.content_bytes();
        let queue = if task.is_retry { &mut self.retries } else { &mut self.throttled };
        queue.push_back(task);
    }

    /// Returns true if a task may be taken, given `slots` in all. Retries take at most half of
    /// them, so that slow failures leave room for untried items and for a poll.
    pub(super) fn has_next(&self, slots: usize) -> bool {
        self.has_untried_queued() || self.has_retry_slot(slots)
    }

    pub(super) fn pop(&mut self, slots: usize) -> Option<FetchTask> {
        let task = self.pop_next(slots)?;
        self.content_bytes -= task.content_bytes();
        Some(task)
    }

    fn pop_next(&mut self, slots: usize) -> Option<FetchTask> {
        let is_retry_turn = !self.has_untried_queued() || self.untried_streak >= UNTRIED_PER_RETRY;
        if is_retry_turn && self.has_retry_slot(slots) {
            self.untried_streak = 0;
            self.retries_in_flight += 1;
            return self.retries.pop_front();
        }
        self.untried_streak = self.untried_streak.saturating_add(1);
        self.pop_untried()
    }

    /// Records that a task has its result.
    pub(super) fn record_completed(&mut self, task: &FetchTask) {
        self.retries_in_flight = self.retries_in_flight.saturating_sub(usize::from(task.is_retry));
    }

    /// Clears the queue, and the count of retries in flight.
    pub(super) fn clear(&mut self) {
        *self = Self::new();
    }

    /// Removes and returns all queued tasks.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = FetchTask> + use<> {
        self.reset_backlog();
        self.content_bytes = 0;
        let [untried, throttled, retries] =
            [&mut self.untried, &mut self.throttled, &mut self.retries].map(std::mem::take);
        untried.into_iter().chain(throttled).chain(retries)
    }

    /// Assumes that the ledger has due items of both kinds again.
    pub(super) fn reset_backlog(&mut self) {
        self.backlog = LedgerBacklog { has_untried: true, has_retries: true };
    }

    /// Returns true if there is room for due items that the ledger may have.
    pub(super) fn has_room(&self) -> bool {
        self.content_bytes <= QUEUED_CONTENT_BYTES_MAX
            && ((self.backlog.has_untried && self.untried.len() < LOW_WATERMARK)
                || (self.backlog.has_retries && self.retries.len() < LOW_WATERMARK))
    }

    /// Returns the number of items of each kind to load.
    pub(super) fn request_limits(&mut self) -> DueLimits {
        let limit = |queue: &VecDeque<FetchTask>| {
            if queue.len() < LOW_WATERMARK { REFILL_ITEMS_MAX } else { 0 }
        };
        let (untried, retries) = (limit(&self.untried), limit(&self.retries));
        self.requested = DueLimits { untried, retries };
        self.requested
    }

    /// Records the number of loaded items of each kind. Returns true if the ledger may have more.
    pub(super) fn record_loaded(&mut self, untried: usize, retries: usize) -> bool {
        // A kind that was not requested may have some.
        self.backlog.has_untried = untried >= self.requested.untried;
        self.backlog.has_retries = retries >= self.requested.retries;
        self.backlog.has_untried || self.backlog.has_retries
    }

    fn has_untried_queued(&self) -> bool {
        !self.untried.is_empty() || !self.throttled.is_empty()
    }

    /// Takes tasks from alternating ends. Bad messages are often adjacent, and an uninterrupted
    /// series of them looks like a provider that is down.
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
