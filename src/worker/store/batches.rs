//! Batches of download results: split into files for the archive and updates for the ledger, then
//! recorded.

use std::collections::BTreeSet;

use cynosure_engine::{Cause, Failure, RecheckPolicy, Timestamp};

use super::Store;
use crate::archive::{BatchEntry, FolderName, Intent, PublishedFile, SpooledDocument, WriteBatch};
use crate::ledger::SessionCounts;
use crate::source::DocumentRef;
use crate::worker::commit_batch::{CommitBatch, DownloadOutcome};
use crate::worker::contents_in_flight::BatchHashes;
use crate::worker::ledger_updates::{FetchedDocument, LedgerUpdates};

impl Store {
    /// Splits a batch into documents for the archive and updates for the ledger.
    ///
    /// Where locations identify documents, equal bytes are stored once: the spool of the second
    /// document is dropped, and its row will name the file of the first.
    pub(in crate::worker) fn split_batch(
        &mut self,
        batch: CommitBatch,
    ) -> Result<(Option<WriteBatch>, LedgerUpdates), Failure> {
        let (mut documents, mut updates) = (None, LedgerUpdates::default());
        let mut hashes = BTreeSet::new();
        for outcome in batch.outcomes {
            match outcome {
                DownloadOutcome::Stored { document, item_id, expected_blob, fetched, spooled } => {
                    let is_identified_by_location = fetched.is_identified_by_location();
                    let DocumentRef { document: document_id, blob, size, .. } = *fetched;
                    let fetched_document = FetchedDocument {
                        document,
                        expected_blob,
                        blob: blob.clone(),
                        size,
                        is_identified_by_location,
                    };
                    if is_identified_by_location && !self.claim_content(&spooled, &mut hashes)? {
                        updates.push_copy(fetched_document, spooled.length(), spooled.sha256());
                        continue;
                    }
                    let version = self.ledger.next_version(document)?;
                    let documents = match &mut documents {
                        Some(documents) => documents,
                        None => documents.insert(WriteBatch::new(self.session_folder()?)),
                    };
                    documents.push(BatchEntry {
                        item: item_id,
                        document: document_id,
                        blob,
                        size,
                        version,
                        spooled,
                    });
                    updates.push_document(fetched_document);
                }
                outcome @ (DownloadOutcome::Gone { .. }
                | DownloadOutcome::Failed { .. }
                | DownloadOutcome::Completed { .. }
                | DownloadOutcome::Retry { .. }
                | DownloadOutcome::Quarantined { .. }) => updates.push(outcome),
            }
        }
        if !hashes.is_empty() {
            updates.hold_hashes(self.contents_in_flight.add(hashes));
        }
        Ok((documents, updates))
    }

    /// Adds the hash of a document to those of its batch. Returns false if the bytes are stored, or
    /// on their way into the archive with this batch or the one before it.
    fn claim_content(
        &self,
        spooled: &SpooledDocument,
        hashes: &mut BatchHashes,
    ) -> Result<bool, Failure> {
        let sha256 = spooled.sha256();
        if self.contents_in_flight.contains(&sha256)
            || self.ledger.has_content(&sha256, spooled.length())?
        {
            return Ok(false);
        }
        Ok(hashes.insert(sha256))
    }

    /// Records a batch, whose documents are in the archive already.
    pub(in crate::worker) fn record_batch(
        &mut self,
        updates: LedgerUpdates,
        published: Option<(Vec<Result<PublishedFile, Failure>>, Intent)>,
        recheck: RecheckPolicy,
        now: Timestamp,
    ) -> Result<SessionCounts, Failure> {
        let (files, intent) = published.unzip();
        self.ledger.commit(&updates.into_updates(files.unwrap_or_default()), recheck, now)?;
        if let Some(intent) = intent {
            self.archive.clear_intent(intent);
        }
        self.ledger.session_counts()
    }

    /// Returns the folder of the open session, created with its first document.
    fn session_folder(&mut self) -> Result<FolderName, Failure> {
        let Some(session) = self.ledger.open_session()? else {
            return Err(Failure::new(Cause::Ledger, "no session is open in the ledger"));
        };
        if let Some(folder) = session.folder.as_deref().and_then(FolderName::parse) {
            return Ok(folder);
        }
        let folder =
            self.archive.create_session_folder(session.started_at, &self.source_info.account)?;
        self.ledger.set_session_folder(folder.as_str())?;
        Ok(folder)
    }
}
