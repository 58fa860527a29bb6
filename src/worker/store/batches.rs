//! Batches of download results: split into files for the archive and updates for the ledger, then
//! recorded.

use cynosure_engine::{Cause, Failure, ListedDocument, RecheckPolicy, Timestamp};

use super::Store;
use crate::archive::{BatchEntry, FolderName, PublishedBatch, SpooledDocument, WriteBatch};
use crate::ledger::{DocumentFacts, FetchedContent, SessionCounts};
use crate::source::DocumentRef;
use crate::worker::commit_batch::{CommitBatch, DownloadOutcome};
use crate::worker::contents_in_flight::BatchHashes;
use crate::worker::ledger_updates::{FetchedDocument, LedgerUpdates};

/// File of a fetched document, as the ledger decides on it.
#[derive(Debug)]
struct PlannedFile {
    /// Number of the version that it stores.
    version: u32,
    /// Labels of the document, for the manifest.
    labels: Vec<(String, String)>,
    /// Names of its folders without numbers, for the manifest.
    folders: Vec<String>,
}

impl PlannedFile {
    /// Plans the file of a document. Its folders are those that the fetch reported, or else those
    /// that a listing reported.
    fn new(facts: DocumentFacts, fetched_folders: &[String]) -> Self {
        let kept = ListedDocument::kept_folders(fetched_folders);
        let folders = if kept.is_empty() {
            facts.folders
        } else {
            kept.into_iter().map(str::to_owned).collect()
        };
        Self { version: facts.next_version, labels: facts.labels, folders }
    }
}

/// Returns what the ledger is asked about an outcome that has a document.
fn fetched_content(outcome: &DownloadOutcome) -> Option<FetchedContent> {
    let DownloadOutcome::Stored { document, fetched, spooled, .. } = outcome else { return None };
    let identity = (spooled.sha256(), spooled.length());
    Some(FetchedContent {
        document: *document,
        identity: fetched.is_identified_by_location().then_some(identity),
    })
}

impl Store {
    /// Splits a batch into documents for the archive and updates for the ledger.
    ///
    /// Where locations identify documents, equal bytes are stored once: the spool of the second
    /// document is dropped, and its row will name the file of the first.
    pub(in crate::worker) fn split_batch(
        &mut self,
        batch: CommitBatch,
    ) -> Result<(Option<WriteBatch>, LedgerUpdates), Failure> {
        self.settle_lines()?;
        let (files, hashes) = self.plan_files(&batch)?;
        let has_files = files.iter().any(Option::is_some);
        let mut documents =
            if has_files { Some(WriteBatch::new(self.session_folder()?)) } else { None };
        let mut files = files.into_iter();
        let mut updates = LedgerUpdates::default();
        for outcome in batch.outcomes {
            match outcome {
                DownloadOutcome::Stored {
                    document,
                    item_id,
                    expected_blob,
                    fetched,
                    folders,
                    spooled,
                } => {
                    let is_identified_by_location = fetched.is_identified_by_location();
                    let DocumentRef { document: document_id, blob, size, .. } = *fetched;
                    let fetched_document = FetchedDocument {
                        document,
                        expected_blob,
                        blob: blob.clone(),
                        size,
                        is_identified_by_location,
                        folders,
                    };
                    let file = documents.as_mut().zip(files.next().flatten());
                    let Some((documents, PlannedFile { version, labels, folders })) = file else {
                        updates.push_copy(fetched_document, spooled.length(), spooled.sha256());
                        continue;
                    };
                    documents.push(BatchEntry {
                        item: item_id,
                        document: document_id,
                        blob,
                        size,
                        version,
                        labels,
                        folders,
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

    /// Returns the file of each fetched document, in their order, or `None` if its bytes are stored
    /// already; and the hashes of those that are not.
    fn plan_files(
        &self,
        batch: &CommitBatch,
    ) -> Result<(Vec<Option<PlannedFile>>, BatchHashes), Failure> {
        let contents: Vec<_> = batch.outcomes.iter().filter_map(fetched_content).collect();
        if contents.is_empty() {
            return Ok(Default::default());
        }
        let mut all_facts = self.ledger.document_facts(&contents)?.into_iter();
        let (mut files, mut hashes) = (Vec::new(), BatchHashes::new());
        for outcome in &batch.outcomes {
            let DownloadOutcome::Stored { folders, fetched, spooled, .. } = outcome else {
                continue;
            };
            let missing = || Failure::new(Cause::Ledger, "the ledger left out a fetched document");
            let facts = all_facts.next().ok_or_else(missing)?;
            let is_copy = fetched.is_identified_by_location()
                && (facts.is_content_stored || !self.claim_content(spooled, &mut hashes));
            files.push(if is_copy { None } else { Some(PlannedFile::new(facts, folders)) });
        }
        Ok((files, hashes))
    }

    /// Adds the hash of a document to those of its batch. Returns false if the bytes are on their
    /// way into the archive with this batch or the one before it.
    fn claim_content(&self, spooled: &SpooledDocument, hashes: &mut BatchHashes) -> bool {
        let sha256 = spooled.sha256();
        !self.contents_in_flight.contains(&sha256) && hashes.insert(sha256)
    }

    /// Records a batch, whose documents are in the archive already.
    pub(in crate::worker) fn record_batch(
        &mut self,
        updates: LedgerUpdates,
        published: Option<PublishedBatch>,
        recheck: RecheckPolicy,
        now: Timestamp,
    ) -> Result<SessionCounts, Failure> {
        let (files, intent) = published.map(|batch| (batch.files, batch.intent)).unzip();
        let updates = updates.into_updates(files.unwrap_or_default());
        if let Err(failure) = self.ledger.commit(&updates, recheck, now) {
            drop(intent);
            // The next batch may be published before another is split.
            self.settle_lines().ok();
            return Err(failure);
        }
        if let Some(intent) = intent {
            self.archive.clear_intent(intent);
        }
        self.ledger.session_counts()
    }

    /// Cuts off the lines of a batch that failed, so that others can be appended.
    fn settle_lines(&mut self) -> Result<(), Failure> {
        if !self.archive.has_abandoned_documents() {
            return Ok(());
        }
        // Otherwise rows that name these lines might come back with the next start.
        self.ledger.overwrite_failed_commit()?;
        self.archive.remove_abandoned_documents(&|item, document, location| {
            self.ledger.is_stored_at(item, document, &location.folder, &location.file)
        })
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
