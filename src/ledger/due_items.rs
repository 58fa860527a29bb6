//! Items and documents to be fetched next.

use cynosure_engine::{BlobId, DocumentId, DocumentLocation, ItemFailureCounts, ItemId};

use crate::ledger::rows::{DocumentRowId, ItemRowId};

/// Bytes of listed contents after which no further documents are returned at once. A listed
/// document has a few kilobytes, and the worker takes less than 64 MiB.
pub(super) const DUE_CONTENT_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Item to fetch, with its pending documents.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct DueItem {
    pub row_id: ItemRowId,
    pub item: ItemId,
    /// True if it failed since it became pending.
    pub is_retry: bool,
    /// Counts of its failures. An untried item may have failed before it became pending.
    pub failure_counts: ItemFailureCounts,
    pub documents: Vec<DocumentRow>,
}

/// Limits on the number of items to return.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct DueLimits {
    /// Items that were never tried.
    pub untried: usize,
    /// Items that failed before.
    pub retries: usize,
}

/// A document to be fetched.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct DocumentRow {
    pub row_id: DocumentRowId,
    pub id: DocumentId,
    pub blob: BlobId,
    /// In bytes, if the server reports it.
    pub size: Option<u64>,
    /// Places on the server, the newest of each folder before any other. Not all, if there are very
    /// many.
    pub locations: Vec<DocumentLocation>,
    /// The document itself, if its listing contained it.
    pub content: Option<String>,
}
