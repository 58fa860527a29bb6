//! What of a group goes into the ledger, once its documents are in the archive.

use crate::archive::PublishedFile;
use crate::engine::{BlobId, Failure};
use crate::ledger::{self, DocumentRowId};
use crate::worker::commit_batch::DownloadOutcome;

/// What of a group is to be recorded.
#[derive(Debug, Default)]
pub(super) struct LedgerUpdates {
    /// The documents that go into the archive, in the order of their answers.
    documents: Vec<FetchedDocument>,
    others: Vec<ledger::LedgerUpdate>,
}

/// A document of which the archive will say where it is.
#[derive(Debug)]
pub(super) struct FetchedDocument {
    pub(super) document: DocumentRowId,
    /// The blob by which the ledger knew it when it was taken.
    pub(super) expected_blob: BlobId,
    pub(super) blob: BlobId,
    pub(super) size: Option<u64>,
}

impl LedgerUpdates {
    pub(super) fn push_document(&mut self, document: FetchedDocument) {
        self.documents.push(document);
    }

    /// Adds an outcome that needs nothing of the archive.
    pub(super) fn push(&mut self, outcome: DownloadOutcome) {
        self.others.extend(ledger_outcome(outcome));
    }

    /// The outcomes of the group, given the archive's answers in the order of its documents.
    pub(super) fn into_outcomes(
        self,
        kept: Vec<Result<PublishedFile, Failure>>,
    ) -> Vec<ledger::LedgerUpdate> {
        let stored = self.documents.into_iter().zip(kept);
        // The documents come first: they decide what becomes of the items.
        stored.map(|(document, kept)| document_outcome(document, kept)).chain(self.others).collect()
    }
}

/// A document whose own place is obstructed sets its item aside; the others are kept.
fn document_outcome(
    fetched: FetchedDocument,
    kept: Result<PublishedFile, Failure>,
) -> ledger::LedgerUpdate {
    let FetchedDocument { document, expected_blob: listed, blob, size } = fetched;
    match kept {
        Ok(PublishedFile { file, length, sha256 }) => ledger::LedgerUpdate::Stored {
            document,
            expected_blob: listed,
            fetched_blob: blob,
            size,
            file,
            length,
            sha256,
        },
        Err(failure) => ledger::LedgerUpdate::Failed { document, failure },
    }
}

fn ledger_outcome(outcome: DownloadOutcome) -> Option<ledger::LedgerUpdate> {
    match outcome {
        // Kept first, and recorded with where it is.
        DownloadOutcome::Stored { .. } => None,
        // Its documents say what became of it.
        DownloadOutcome::Completed { .. } => None,
        DownloadOutcome::Gone { document, expected_blob: listed } => {
            Some(ledger::LedgerUpdate::Gone { document, expected_blob: listed })
        }
        DownloadOutcome::Failed { document, failure } => {
            Some(ledger::LedgerUpdate::Failed { document, failure })
        }
        DownloadOutcome::Retry { item, failure_counts: trial, retry_at: at, failure } => {
            Some(ledger::LedgerUpdate::Retry {
                item,
                failure_counts: trial,
                next_attempt_at: at,
                failure,
            })
        }
        DownloadOutcome::Quarantined { item, failure } => {
            Some(ledger::LedgerUpdate::Quarantined { item, failure })
        }
    }
}
