//! Results of documents and items, as a batch records them.

use cynosure_engine::{BlobId, DocumentLocation, Failure, ItemFailureCounts, Timestamp};

use crate::ledger::rows::{DocumentRowId, ItemRowId};

/// Result of a document or an item, to be recorded.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum LedgerUpdate {
    /// The document is durably stored in the open session's folder of the archive.
    Stored {
        document: DocumentRowId,
        /// Blob of the document in the ledger when its fetch began.
        expected_blob: BlobId,
        /// Blob that was fetched. The ledger adopts it if it differs from `expected_blob`.
        fetched_blob: BlobId,
        /// Exact size in bytes, if the server reports it.
        size: Option<u64>,
        /// The path below the folder.
        file: String,
        /// In bytes.
        length: u64,
        sha256: [u8; 32],
        /// True if only the bytes show that other documents have the same content. Then later
        /// documents with these bytes share the file.
        is_identified_by_location: bool,
        /// Names of all folders that contain the document, if the response reported them. They
        /// replace those recorded before.
        folders: Vec<String>,
    },
    /// Another document has the same bytes, and its file is in the archive. If it is not stored
    /// after all, nothing changes: the document stays pending, and is fetched again.
    Copied {
        document: DocumentRowId,
        /// Blob of the document in the ledger when its fetch began.
        expected_blob: BlobId,
        /// Blob that was fetched.
        fetched_blob: BlobId,
        /// Exact size in bytes, if the server reports it.
        size: Option<u64>,
        /// In bytes.
        length: u64,
        sha256: [u8; 32],
        /// As those of a stored document.
        folders: Vec<String>,
    },
    /// The source no longer has the document that was listed with this blob. If it has another
    /// location, it stays pending and is looked for there, and those that were tried are deleted.
    Gone {
        document: DocumentRowId,
        expected_blob: BlobId,
        /// Locations at which it was looked for.
        tried_locations: Vec<DocumentLocation>,
    },
    /// The server refuses the document, or the document itself cannot be processed (poison), such
    /// as one that is too large. Its item ends in quarantine, and its other documents are kept.
    Failed { document: DocumentRowId, failure: Failure },
    /// The item is tried again at `next_attempt_at`.
    Retry {
        item: ItemRowId,
        failure_counts: ItemFailureCounts,
        next_attempt_at: Timestamp,
        failure: Failure,
    },
    /// The item's attempts are used up.
    Quarantined { item: ItemRowId, failure: Failure },
}
