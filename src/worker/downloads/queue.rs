//! Documents that wait to be fetched: those of untried items, and those of items that failed before.

use std::collections::{BTreeSet, VecDeque};

use super::Errand;
use crate::ledger::{DueLimits, ItemNo};

/// Fewer errands of a kind than this, and more are taken from the ledger.
const LOW: usize = 256;

/// Items of a kind that are taken from the ledger at a time.
const ITEMS_MAX: usize = 256;

/// Errands of untried items that go before one of an item that failed, where both wait: what never
/// failed is likely to succeed, and what failed must still come to an end.
const UNTRIED_IN_A_ROW: u32 = 3;

/// What is to be taken from the ledger.
#[derive(Debug, Eq, PartialEq)]
pub(in crate::worker) struct Wish {
    pub(in crate::worker) limits: DueLimits,
    /// The items to pass over.
    pub(in crate::worker) skip: BTreeSet<ItemNo>,
}

/// Items in the ledger that were not taken yet.
#[derive(Clone, Copy, Debug)]
struct More {
    untried: bool,
    retries: bool,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum End {
    Front,
    Back,
}

#[derive(Debug)]
pub(super) struct Queue {
    untried: VecDeque<Errand>,
    /// Documents that were throttled: they come after all others that never failed.
    throttled: VecDeque<Errand>,
    retries: VecDeque<Errand>,
    /// The end of the untried from which the last one was taken.
    end: End,
    /// Retries in flight.
    retrying: usize,
    /// Untried errands that were taken since the last retry.
    untried_in_a_row: u32,
    more: More,
    /// What was asked for last.
    asked: DueLimits,
}

impl Queue {
    pub(super) fn new() -> Self {
        Self {
            untried: VecDeque::new(),
            throttled: VecDeque::new(),
            retries: VecDeque::new(),
            end: End::Back,
            retrying: 0,
            untried_in_a_row: 0,
            more: More { untried: true, retries: true },
            asked: DueLimits { untried: 0, retries: 0 },
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        !self.has_untried_here() && self.retries.is_empty()
    }

    /// Whether untried items wait here, or may be in the ledger.
    pub(super) fn has_untried(&self) -> bool {
        self.more.untried || self.has_untried_here()
    }

    pub(super) fn push(&mut self, errand: Errand) {
        let queue = if errand.is_retry { &mut self.retries } else { &mut self.untried };
        queue.push_back(errand);
    }

    pub(super) fn push_throttled(&mut self, errand: Errand) {
        let queue = if errand.is_retry { &mut self.retries } else { &mut self.throttled };
        queue.push_back(errand);
    }

    /// Whether an errand may be taken with `slots` in all. Retries hold at most half of them, so
    /// that slow failures leave room for new mail and for a look.
    pub(super) fn may_take(&self, slots: usize) -> bool {
        self.has_untried_here() || self.may_retry(slots)
    }

    pub(super) fn take(&mut self, slots: usize) -> Option<Errand> {
        let is_turn = !self.has_untried_here() || self.untried_in_a_row >= UNTRIED_IN_A_ROW;
        if is_turn && self.may_retry(slots) {
            self.untried_in_a_row = 0;
            self.retrying += 1;
            return self.retries.pop_front();
        }
        self.untried_in_a_row = self.untried_in_a_row.saturating_add(1);
        self.take_untried()
    }

    /// Notes that an errand is answered.
    pub(super) fn answered(&mut self, errand: &Errand) {
        self.retrying = self.retrying.saturating_sub(usize::from(errand.is_retry));
    }

    /// Forgets what is in flight, too.
    pub(super) fn clear(&mut self) {
        *self = Self::new();
    }

    /// Takes out whatever waits.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = Errand> + use<> {
        self.may_be_more();
        let [untried, throttled, retries] =
            [&mut self.untried, &mut self.throttled, &mut self.retries].map(std::mem::take);
        untried.into_iter().chain(throttled).chain(retries)
    }

    /// The ledger may have untried items again.
    pub(super) fn may_be_more(&mut self) {
        self.more = More { untried: true, retries: true };
    }

    /// Whether there is room for what the ledger is known to have.
    pub(super) fn has_room(&self) -> bool {
        (self.more.untried && self.untried.len() < LOW)
            || (self.more.retries && self.retries.len() < LOW)
    }

    /// How much of each kind there is room for.
    pub(super) fn ask(&mut self) -> DueLimits {
        let limit = |queue: &VecDeque<Errand>| if queue.len() < LOW { ITEMS_MAX } else { 0 };
        let (untried, retries) = (limit(&self.untried), limit(&self.retries));
        self.asked = DueLimits { untried, retries };
        self.asked
    }

    /// Notes how many items of each kind came; returns whether there may be more of them now.
    pub(super) fn came(&mut self, untried: usize, retries: usize) -> bool {
        // Where none was asked for, there may be some.
        self.more.untried = untried >= self.asked.untried;
        self.more.retries = retries >= self.asked.retries;
        self.more.untried || self.more.retries
    }

    fn has_untried_here(&self) -> bool {
        !self.untried.is_empty() || !self.throttled.is_empty()
    }

    /// Takes from one end, then from the other. Bad messages often stand together, and a row of them
    /// that nothing else interrupts looks like a provider that is down.
    fn take_untried(&mut self) -> Option<Errand> {
        let taken = match self.end {
            End::Front => self.untried.pop_back(),
            End::Back => self.untried.pop_front(),
        };
        self.end = match self.end {
            End::Front => End::Back,
            End::Back => End::Front,
        };
        taken.or_else(|| self.throttled.pop_front())
    }

    fn may_retry(&self, slots: usize) -> bool {
        !self.retries.is_empty() && self.retrying < (slots / 2).max(1)
    }
}
