//! Outcomes that become durable together.

use std::time::Duration;

use crate::archive::{BATCH_BYTES_MAX, BATCH_DOCUMENTS_MAX, SpooledDocument};
use crate::engine::{BlobId, ClockStep, Failure, ItemFailureCounts, ItemId, Timestamp};
use crate::ledger::{DocumentRowId, ItemRowId};
use crate::source::DocumentRef;

/// A group closes after this long, so that little is fetched again after a crash.
const BATCH_AGE_MAX: Duration = Duration::from_millis(500);

/// The share of a group's bytes that a document on disk takes: it holds a file open, of which
/// a process has 1,024.
const SPILLED_DOCUMENT_SHARE: usize = BATCH_BYTES_MAX / 32;

/// What became of a document or an item, to be made durable.
#[derive(Debug)]
pub(super) enum DownloadOutcome {
    Stored {
        document: DocumentRowId,
        item_id: ItemId,
        /// The blob by which the ledger knew it when it was taken.
        expected_blob: BlobId,
        /// The blob that was fetched.
        fetched: DocumentRef,
        spooled: SpooledDocument,
    },
    Gone {
        document: DocumentRowId,
        expected_blob: BlobId,
    },
    Failed {
        document: DocumentRowId,
        failure: Failure,
    },
    /// Every document that was asked for is answered: the ledger sees what the item is now.
    Completed {
        item: ItemRowId,
    },
    Retry {
        item: ItemRowId,
        failure_counts: ItemFailureCounts,
        retry_at: Timestamp,
        failure: Failure,
    },
    Quarantined {
        item: ItemRowId,
        failure: Failure,
    },
}

/// Outcomes that become durable together.
#[derive(Debug, Default)]
pub(super) struct CommitBatch {
    pub outcomes: Vec<DownloadOutcome>,
    documents: usize,
    bytes: usize,
    opened_at: Option<Timestamp>,
}

/// What a group holds, in numbers.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct BatchStats {
    pub(super) documents: u64,
    pub(super) bytes: u64,
    /// Items that failed, be it for the last time.
    pub(super) failed_items: u64,
}

impl CommitBatch {
    pub(super) fn push(&mut self, outcome: DownloadOutcome, now: Timestamp) {
        self.opened_at.get_or_insert(now);
        self.documents += usize::from(outcome.item().is_none());
        self.bytes += outcome.memory_bytes();
        self.outcomes.push(outcome);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.outcomes.is_empty()
    }

    pub(super) fn is_full(&self) -> bool {
        self.documents >= BATCH_DOCUMENTS_MAX || self.bytes >= BATCH_BYTES_MAX
    }

    /// When it is to be made durable, full or not.
    pub(super) fn commit_due_at(&self) -> Option<Timestamp> {
        self.opened_at.map(|opened| opened.after(BATCH_AGE_MAX))
    }

    /// The clock was set: it closes, and what is in it is due, as far away as before.
    pub(super) fn shift_by(&mut self, step: ClockStep) {
        self.opened_at = self.opened_at.map(|opened| opened.shifted_by(step));
        self.outcomes.iter_mut().for_each(|outcome| outcome.shift_by(step));
    }

    /// The items that are free again once the group is durable, or lost.
    pub(super) fn items(&self) -> Vec<ItemRowId> {
        self.outcomes.iter().filter_map(DownloadOutcome::item).collect()
    }

    /// What of it is counted once it is durable.
    pub(super) fn stats(&self) -> BatchStats {
        let mut weight = BatchStats::default();
        for outcome in &self.outcomes {
            match outcome {
                DownloadOutcome::Stored { spooled: draft, .. } => {
                    weight.documents += 1;
                    weight.bytes = weight.bytes.saturating_add(draft.length());
                }
                DownloadOutcome::Retry { .. } | DownloadOutcome::Quarantined { .. } => {
                    weight.failed_items += 1
                }
                DownloadOutcome::Gone { .. }
                | DownloadOutcome::Failed { .. }
                | DownloadOutcome::Completed { .. } => {}
            }
        }
        weight
    }

    /// The earliest retry in it.
    pub(super) fn earliest_retry(&self) -> Option<Timestamp> {
        let retries = self.outcomes.iter().filter_map(|outcome| match outcome {
            DownloadOutcome::Retry { retry_at: at, .. } => Some(*at),
            DownloadOutcome::Stored { .. }
            | DownloadOutcome::Gone { .. }
            | DownloadOutcome::Failed { .. }
            | DownloadOutcome::Completed { .. }
            | DownloadOutcome::Quarantined { .. } => None,
        });
        retries.min()
    }
}

impl DownloadOutcome {
    /// The item this is the last word on for now.
    pub(super) fn item(&self) -> Option<ItemRowId> {
        match self {
            Self::Completed { item }
            | Self::Retry { item, .. }
            | Self::Quarantined { item, .. } => Some(*item),
            Self::Stored { .. } | Self::Gone { .. } | Self::Failed { .. } => None,
        }
    }

    pub(super) fn shift_by(&mut self, step: ClockStep) {
        match self {
            Self::Retry { retry_at: at, .. } => *at = at.shifted_by(step),
            Self::Stored { .. }
            | Self::Gone { .. }
            | Self::Failed { .. }
            | Self::Completed { .. }
            | Self::Quarantined { .. } => {}
        }
    }

    /// The memory it takes in its group, in bytes.
    fn memory_bytes(&self) -> usize {
        match self {
            Self::Stored { spooled: draft, .. } if draft.fits_in_memory(0) => {
                usize::try_from(draft.length()).unwrap_or(usize::MAX)
            }
            Self::Stored { .. } => SPILLED_DOCUMENT_SHARE,
            Self::Gone { .. }
            | Self::Failed { .. }
            | Self::Completed { .. }
            | Self::Retry { .. }
            | Self::Quarantined { .. } => 0,
        }
    }
}
