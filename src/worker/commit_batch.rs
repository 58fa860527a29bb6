//! Batch of download outcomes that are committed together.

use std::time::Duration;

use cynosure_engine::{
    BlobId, ClockStep, DocumentLocation, Failure, ItemFailureCounts, ItemId, Timestamp,
};

use crate::archive::{BATCH_BYTES_MAX, BATCH_DOCUMENTS_MAX, SpooledDocument};
use crate::ledger::{DocumentRowId, ItemRowId};
use crate::source::DocumentRef;

/// Longest time until a batch is committed, so that little is fetched again after a crash.
const BATCH_AGE_MAX: Duration = Duration::from_millis(500);

/// Share of the bytes of a batch that a document spooled to disk counts for. It holds a file open,
/// and a process may have 1,024 of those.
const SPILLED_DOCUMENT_SHARE: usize = BATCH_BYTES_MAX / 32;

/// Result for a document or an item, to be committed to archive and ledger.
#[derive(Debug)]
pub(super) enum DownloadOutcome {
    Stored {
        document: DocumentRowId,
        item_id: ItemId,
        /// Blob under which the ledger knew the document when the fetch task was created.
        expected_blob: BlobId,
        /// Document and blob that were fetched. Boxed because the other outcomes are much smaller.
        fetched: Box<DocumentRef>,
        /// Names of the document's folders, if the response reported them.
        folders: Vec<String>,
        spooled: SpooledDocument,
    },
    Gone {
        document: DocumentRowId,
        expected_blob: BlobId,
        /// Locations at which it was looked for.
        tried_locations: Vec<DocumentLocation>,
    },
    Failed {
        document: DocumentRowId,
        failure: Failure,
    },
    /// Every requested document has a result: the ledger derives the state of the item from them.
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

/// Download outcomes that are committed together.
#[derive(Debug, Default)]
pub(super) struct CommitBatch {
    pub outcomes: Vec<DownloadOutcome>,
    documents: usize,
    bytes: usize,
    opened_at: Option<Timestamp>,
}

/// Statistics of a batch.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct BatchStats {
    pub(super) documents: u64,
    pub(super) bytes: u64,
    /// Items that failed, including those that are now quarantined.
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

    /// Returns the number of documents with a result.
    pub(super) fn documents(&self) -> usize {
        self.documents
    }

    pub(super) fn is_full(&self) -> bool {
        self.documents >= BATCH_DOCUMENTS_MAX || self.bytes >= BATCH_BYTES_MAX
    }

    /// Returns the time at which the batch is committed, full or not.
    pub(super) fn commit_due_at(&self) -> Option<Timestamp> {
        self.opened_at.map(|opened| opened.after(BATCH_AGE_MAX))
    }

    /// Shifts the deadlines of the batch by a clock step.
    pub(super) fn shift_by(&mut self, step: ClockStep) {
        self.opened_at = self.opened_at.map(|opened| opened.shifted_by(step));
        self.outcomes.iter_mut().for_each(|outcome| outcome.shift_by(step));
    }

    /// Returns the items that are free again once the batch is committed or lost.
    pub(super) fn items(&self) -> Vec<ItemRowId> {
        self.outcomes.iter().filter_map(DownloadOutcome::item).collect()
    }

    /// Returns the statistics that are counted once the batch is committed.
    pub(super) fn stats(&self) -> BatchStats {
        let mut stats = BatchStats::default();
        for outcome in &self.outcomes {
            match outcome {
                DownloadOutcome::Stored { spooled, .. } => {
                    stats.documents += 1;
                    stats.bytes = stats.bytes.saturating_add(spooled.length());
                }
                DownloadOutcome::Retry { .. } | DownloadOutcome::Quarantined { .. } => {
                    stats.failed_items += 1;
                }
                DownloadOutcome::Gone { .. }
                | DownloadOutcome::Failed { .. }
                | DownloadOutcome::Completed { .. } => {}
            }
        }
        stats
    }

    /// Returns the earliest retry in the batch.
    pub(super) fn earliest_retry(&self) -> Option<Timestamp> {
        let retries = self.outcomes.iter().filter_map(|outcome| match outcome {
            DownloadOutcome::Retry { retry_at, .. } => Some(*retry_at),
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
    /// Returns the item that this outcome finishes for now; `None` for an outcome of one document.
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
            Self::Retry { retry_at, .. } => *retry_at = retry_at.shifted_by(step),
            Self::Stored { .. }
            | Self::Gone { .. }
            | Self::Failed { .. }
            | Self::Completed { .. }
            | Self::Quarantined { .. } => {}
        }
    }

    /// Returns the memory that the outcome takes in its batch, in bytes.
    fn memory_bytes(&self) -> usize {
        match self {
            Self::Stored { spooled, .. } if spooled.fits_in_memory(0) => {
                usize::try_from(spooled.length()).unwrap_or(usize::MAX)
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
