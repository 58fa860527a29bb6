//! Outcomes that become durable together.

use std::time::Duration;

use crate::archive::{Draft, GROUP_BYTES_MAX, GROUP_DOCUMENTS_MAX};
use crate::engine::{BlobId, ClockStep, Failure, ItemFailureCounts, ItemId, Timestamp};
use crate::ledger::{DocumentNo, ItemNo};
use crate::source::Wanted;

/// A group closes after this long, so that little is fetched again after a crash.
const GROUP_AGE_MAX: Duration = Duration::from_millis(500);

/// The share of a group's bytes that a document on disk takes: it holds a file open, of which
/// a process has 1,024.
const SPILLED_SHARE: usize = GROUP_BYTES_MAX / 32;

/// What became of a document or an item, to be made durable.
#[derive(Debug)]
pub(super) enum Outcome {
    Stored {
        document: DocumentNo,
        item_id: ItemId,
        /// The blob by which the ledger knew it when it was taken.
        listed: BlobId,
        /// The blob that was fetched.
        wanted: Wanted,
        draft: Draft,
    },
    Gone {
        document: DocumentNo,
        listed: BlobId,
    },
    Refused {
        document: DocumentNo,
        failure: Failure,
    },
    /// Every document that was asked for is answered: the ledger sees what the item is now.
    Answered {
        item: ItemNo,
    },
    Retry {
        item: ItemNo,
        trial: ItemFailureCounts,
        at: Timestamp,
        failure: Failure,
    },
    Quarantined {
        item: ItemNo,
        failure: Failure,
    },
}

/// Outcomes that become durable together.
#[derive(Debug, Default)]
pub(super) struct Group {
    pub outcomes: Vec<Outcome>,
    documents: usize,
    bytes: usize,
    opened: Option<Timestamp>,
}

/// What a group holds, in numbers.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Weight {
    pub(super) documents: u64,
    pub(super) bytes: u64,
    /// Items that failed, be it for the last time.
    pub(super) failed_attempts: u64,
}

impl Group {
    pub(super) fn push(&mut self, outcome: Outcome, now: Timestamp) {
        self.opened.get_or_insert(now);
        self.documents += usize::from(outcome.item().is_none());
        self.bytes += outcome.bytes_held();
        self.outcomes.push(outcome);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.outcomes.is_empty()
    }

    pub(super) fn is_full(&self) -> bool {
        self.documents >= GROUP_DOCUMENTS_MAX || self.bytes >= GROUP_BYTES_MAX
    }

    /// When it is to be made durable, full or not.
    pub(super) fn closes_at(&self) -> Option<Timestamp> {
        self.opened.map(|opened| opened.after(GROUP_AGE_MAX))
    }

    /// The clock was set: it closes, and what is in it is due, as far away as before.
    pub(super) fn moved(&mut self, step: ClockStep) {
        self.opened = self.opened.map(|opened| opened.shifted_by(step));
        self.outcomes.iter_mut().for_each(|outcome| outcome.moved(step));
    }

    /// The items that are free again once the group is durable, or lost.
    pub(super) fn items(&self) -> Vec<ItemNo> {
        self.outcomes.iter().filter_map(Outcome::item).collect()
    }

    /// What of it is counted once it is durable.
    pub(super) fn weight(&self) -> Weight {
        let mut weight = Weight::default();
        for outcome in &self.outcomes {
            match outcome {
                Outcome::Stored { draft, .. } => {
                    weight.documents += 1;
                    weight.bytes = weight.bytes.saturating_add(draft.length());
                }
                Outcome::Retry { .. } | Outcome::Quarantined { .. } => weight.failed_attempts += 1,
                Outcome::Gone { .. } | Outcome::Refused { .. } | Outcome::Answered { .. } => {}
            }
        }
        weight
    }

    /// The earliest retry in it.
    pub(super) fn retry_at(&self) -> Option<Timestamp> {
        let retries = self.outcomes.iter().filter_map(|outcome| match outcome {
            Outcome::Retry { at, .. } => Some(*at),
            Outcome::Stored { .. }
            | Outcome::Gone { .. }
            | Outcome::Refused { .. }
            | Outcome::Answered { .. }
            | Outcome::Quarantined { .. } => None,
        });
        retries.min()
    }
}

impl Outcome {
    /// The item this is the last word on for now.
    pub(super) fn item(&self) -> Option<ItemNo> {
        match self {
            Self::Answered { item } | Self::Retry { item, .. } | Self::Quarantined { item, .. } => {
                Some(*item)
            }
            Self::Stored { .. } | Self::Gone { .. } | Self::Refused { .. } => None,
        }
    }

    pub(super) fn moved(&mut self, step: ClockStep) {
        match self {
            Self::Retry { at, .. } => *at = at.shifted_by(step),
            Self::Stored { .. }
            | Self::Gone { .. }
            | Self::Refused { .. }
            | Self::Answered { .. }
            | Self::Quarantined { .. } => {}
        }
    }

    /// The memory it takes in its group, in bytes.
    fn bytes_held(&self) -> usize {
        match self {
            Self::Stored { draft, .. } if draft.fits(0) => {
                usize::try_from(draft.length()).unwrap_or(usize::MAX)
            }
            Self::Stored { .. } => SPILLED_SHARE,
            Self::Gone { .. }
            | Self::Refused { .. }
            | Self::Answered { .. }
            | Self::Retry { .. }
            | Self::Quarantined { .. } => 0,
        }
    }
}
