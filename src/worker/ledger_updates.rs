//! Part of a batch that goes into the ledger once its documents are in the archive.

use std::sync::Arc;

use cynosure_engine::{BlobId, Failure};

use crate::archive::PublishedFile;
use crate::ledger::{self, DocumentRowId};
use crate::worker::commit_batch::DownloadOutcome;
use crate::worker::contents_in_flight::BatchHashes;

/// Ledger updates of a batch.
#[derive(Debug, Default)]
pub(super) struct LedgerUpdates {
    /// Documents that go into the archive, in the order in which they were fetched.
    documents: Vec<FetchedDocument>,
    /// Documents with the bytes of another one, which is in this batch or came before it.
    copies: Vec<ledger::LedgerUpdate>,
    others: Vec<ledger::LedgerUpdate>,
    /// Keeps the hashes of the documents in flight, until these updates are recorded or lost.
    _hashes: Arc<BatchHashes>,
}

/// Fetched document whose file is known once the archive has stored it.
#[derive(Debug)]
pub(super) struct FetchedDocument {
    pub(super) document: DocumentRowId,
    /// Blob under which the ledger knew the document when the fetch task was created.
    pub(super) expected_blob: BlobId,
    pub(super) blob: BlobId,
    pub(super) size: Option<u64>,
    /// True if only the bytes show that other documents have the same content.
    pub(super) is_identified_by_location: bool,
    /// Names of the document's folders, if the response reported them.
    pub(super) folders: Vec<String>,
}

impl LedgerUpdates {
    pub(super) fn push_document(&mut self, document: FetchedDocument) {
        self.documents.push(document);
    }

    /// Adds a fetched document whose bytes are those of another one, which has a file.
    pub(super) fn push_copy(&mut self, fetched: FetchedDocument, length: u64, sha256: [u8; 32]) {
        let FetchedDocument { document, expected_blob, blob, size, folders, .. } = fetched;
        self.copies.push(ledger::LedgerUpdate::Copied {
            document,
            expected_blob,
            fetched_blob: blob,
            size,
            length,
            sha256,
            folders,
        });
    }

    /// Keeps the hashes of the batch in flight.
    pub(super) fn hold_hashes(&mut self, hashes: Arc<BatchHashes>) {
        self._hashes = hashes;
    }

    /// Adds an outcome that does not depend on the archive.
    pub(super) fn push(&mut self, outcome: DownloadOutcome) {
        self.others.extend(to_ledger_update(outcome));
    }

    /// Returns the updates of the batch, given the results of the archive in the order of its
    /// documents.
    pub(super) fn into_updates(
        self,
        results: Vec<Result<PublishedFile, Failure>>,
    ) -> Vec<ledger::LedgerUpdate> {
        let documents = self.documents.into_iter().zip(results);
        // The documents come first, because the copies name their files, and the state of the items
        // is derived from them.
        documents
            .map(|(document, result)| document_update(document, result))
            .chain(self.copies)
            .chain(self.others)
            .collect()
    }
}

/// Returns the update for a document. If the archive cannot store it at its path, only its own item
/// is quarantined; the others are stored.
fn document_update(
    fetched: FetchedDocument,
    result: Result<PublishedFile, Failure>,
) -> ledger::LedgerUpdate {
    let FetchedDocument { document, expected_blob, blob, size, is_identified_by_location, folders } =
        fetched;
    match result {
        Ok(PublishedFile { file, length, sha256 }) => ledger::LedgerUpdate::Stored {
            document,
            expected_blob,
            fetched_blob: blob,
            size,
            file,
            length,
            sha256,
            is_identified_by_location,
            folders,
        },
        Err(failure) => ledger::LedgerUpdate::Failed { document, failure },
    }
}

fn to_ledger_update(outcome: DownloadOutcome) -> Option<ledger::LedgerUpdate> {
    match outcome {
        // Stored in the archive first, then recorded with its location.
        DownloadOutcome::Stored { .. } => None,
        DownloadOutcome::Completed { .. } => None,
        DownloadOutcome::Gone { document, expected_blob, tried_locations } => {
            Some(ledger::LedgerUpdate::Gone { document, expected_blob, tried_locations })
        }
        DownloadOutcome::Failed { document, failure } => {
            Some(ledger::LedgerUpdate::Failed { document, failure })
        }
        DownloadOutcome::Retry { item, failure_counts, retry_at, failure } => {
            Some(ledger::LedgerUpdate::Retry {
                item,
                failure_counts,
                next_attempt_at: retry_at,
                failure,
            })
        }
        DownloadOutcome::Quarantined { item, failure } => {
            Some(ledger::LedgerUpdate::Quarantined { item, failure })
        }
    }
}
