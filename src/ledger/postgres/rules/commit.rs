//! Results of documents and items, a batch at a time.

use std::collections::BTreeSet;

use cynosure_engine::{BlobId, Failure, ItemFailureCounts, RecheckPolicy, Timestamp};

use crate::ledger::LedgerUpdate;
use crate::ledger::postgres::records::{
    ContentRecord, DocumentRecord, LoadedRows, SupersededRecord, WriteSet,
};
use crate::ledger::postgres::rules::column_values::{
    DOCUMENT_FAILED, DOCUMENT_GONE, DOCUMENT_PENDING, DOCUMENT_STORED, ITEM_PENDING, to_hex,
    to_integer,
};
use crate::ledger::postgres::rules::session_work::SessionWork;
use crate::ledger::postgres::rules::workspace::set_content;
use crate::ledger::postgres::storable::storable;

/// Keys of the rows that a batch needs, as `load_batch` takes them: sorted, each once.
#[derive(Debug, Eq, PartialEq)]
pub(in crate::ledger::postgres) struct BatchKeys {
    /// Numbers of the documents.
    pub(in crate::ledger::postgres) documents: Vec<i64>,
    /// Numbers of the items that have a result of their own.
    pub(in crate::ledger::postgres) items: Vec<i64>,
    /// Hashes of the copies, in hexadecimal.
    pub(in crate::ledger::postgres) hashes: Vec<String>,
    /// Numbers of the documents that were not found, whose numbered locations are needed.
    pub(in crate::ledger::postgres) gone: Vec<i64>,
}

/// Returns the keys of the rows that a batch needs.
pub(in crate::ledger::postgres) fn batch_keys(updates: &[LedgerUpdate]) -> BatchKeys {
    let (mut documents, mut items) = (BTreeSet::new(), BTreeSet::new());
    let (mut hashes, mut gone) = (BTreeSet::new(), BTreeSet::new());
    for update in updates {
        match update {
            LedgerUpdate::Stored { document, .. } | LedgerUpdate::Failed { document, .. } => {
                documents.insert(document.0);
            }
            LedgerUpdate::Copied { document, sha256, .. } => {
                documents.insert(document.0);
                hashes.insert(to_hex(sha256));
            }
            LedgerUpdate::Gone { document, .. } => {
                documents.insert(document.0);
                gone.insert(document.0);
            }
            LedgerUpdate::Retry { item, .. } | LedgerUpdate::Quarantined { item, .. } => {
                items.insert(item.0);
            }
        }
    }
    BatchKeys {
        documents: documents.into_iter().collect(),
        items: items.into_iter().collect(),
        hashes: hashes.into_iter().collect(),
        gone: gone.into_iter().collect(),
    }
}

/// Records a batch of results, in their order, on the rows that it needs.
///
/// # Errors
/// The reason, if no session is open, or something is stored and the session has no folder.
pub(in crate::ledger::postgres) fn commit(
    rows: LoadedRows,
    updates: &[LedgerUpdate],
    recheck: RecheckPolicy,
    now: Timestamp,
) -> Result<WriteSet, String> {
    let mut batch = BatchWork { work: SessionWork::open(rows)?, recheck, now };
    for update in updates {
        if let Some(item) = batch.apply_update(update)? {
            batch.work.settle_later(item);
        }
    }
    let mut work = batch.work;
    work.settle_items(recheck, now)?;
    Ok(work.into_write_set(None))
}

/// Rows of one batch.
#[derive(Debug)]
struct BatchWork {
    work: SessionWork,
    recheck: RecheckPolicy,
    now: Timestamp,
}

/// Identity of fetched bytes, and the blob by which they were fetched.
#[derive(Debug)]
struct FetchedIdentity<'a> {
    expected_blob: &'a BlobId,
    blob: &'a BlobId,
    size: Option<u64>,
    length: u64,
    sha256: &'a [u8; 32],
}

impl BatchWork {
    /// Records one result; returns the item that may be settled by it.
    fn apply_update(&mut self, update: &LedgerUpdate) -> Result<Option<i64>, String> {
        match update {
            LedgerUpdate::Stored {
                document,
                expected_blob,
                fetched_blob: blob,
                size,
                file,
                length,
                sha256,
                is_identified_by_location,
                folders,
            } => {
                let fetched =
                    FetchedIdentity { expected_blob, blob, size: *size, length: *length, sha256 };
                let item = self.store_document(document.0, &fetched, file)?;
                if item.is_some() && *is_identified_by_location {
                    self.work.rows.documents.index_content(to_hex(sha256), document.0);
                }
                self.record_folders(item, document.0, folders);
                Ok(item)
            }
            LedgerUpdate::Copied {
                document,
                expected_blob,
                fetched_blob: blob,
                size,
                length,
                sha256,
                folders,
            } => {
                let fetched =
                    FetchedIdentity { expected_blob, blob, size: *size, length: *length, sha256 };
                let item = self.store_copy(document.0, &fetched);
                self.record_folders(item, document.0, folders);
                Ok(item)
            }
            LedgerUpdate::Gone { document, expected_blob, tried_locations } => {
                let locations = &mut self.work.rows.locations;
                if locations.has_untried(document.0, tried_locations) {
                    locations.delete_tried(document.0, tried_locations);
                    return Ok(None);
                }
                Ok(self.mark_gone(document.0, expected_blob))
            }
            LedgerUpdate::Failed { document, failure } => {
                Ok(self.fail_document(document.0, failure))
            }
            LedgerUpdate::Retry { item, failure_counts, next_attempt_at, failure } => {
                self.schedule_retry(item.0, failure_counts, *next_attempt_at, failure);
                Ok(None)
            }
            LedgerUpdate::Quarantined { item, failure } => {
                self.work.quarantine(item.0, failure, self.recheck, self.now)?;
                Ok(None)
            }
        }
    }

    /// Records the folders that a fetch reported, if it settled its document.
    fn record_folders(&mut self, item: Option<i64>, document: i64, folders: &[String]) {
        if item.is_some() {
            self.work.rows.locations.record_folders(document, folders);
        }
    }

    /// Records the file of a fetched document. If the source has replaced the content since the
    /// fetch began, the fetched file is kept as an earlier version.
    fn store_document(
        &mut self,
        document: i64,
        fetched: &FetchedIdentity<'_>,
        file: &str,
    ) -> Result<Option<i64>, String> {
        if self.work.session.folder.is_none() {
            return Err("the session has no folder yet".to_owned());
        }
        let length = to_integer(fetched.length);
        let content = ContentRecord {
            session: self.work.session.no,
            file: file.to_owned(),
            length,
            sha256: to_hex(fetched.sha256),
        };
        let item = self.mark_stored(document, fetched, &content);
        if item.is_some() {
            self.work.count_fetched(length);
        } else if self.keep_version(document, fetched, content) {
            self.work.count_fetched(length);
            self.work.count_superseded();
        }
        Ok(item)
    }

    /// Keeps a fetched file as an earlier version of its document. Returns false if the ledger has
    /// the file already, or no such document.
    fn keep_version(
        &mut self,
        document: i64,
        fetched: &FetchedIdentity<'_>,
        content: ContentRecord,
    ) -> bool {
        let rows = &mut self.work.rows;
        let Some(row) = rows.documents.get(document) else { return false };
        let (session, file) = (content.session, content.file.as_str());
        let is_current = row.session == Some(session) && row.file.as_deref() == Some(file);
        if is_current || rows.versions.contains(document, session, file) {
            return false;
        }
        rows.versions.add(SupersededRecord {
            no: None,
            document,
            blob: storable(fetched.blob.as_str()).into_owned(),
            size: fetched.size.map(to_integer),
            content,
            at: self.now.0,
        });
        // The document is written as well: its version shows if the change was made before, and
        // only its answer was lost.
        rows.documents.change(document, |_| {});
        true
    }

    /// Records a fetched document whose bytes are in the file of another one.
    fn store_copy(&mut self, document: i64, fetched: &FetchedIdentity<'_>) -> Option<i64> {
        let (sha256, length) = (to_hex(fetched.sha256), to_integer(fetched.length));
        let content = self.work.rows.documents.find_indexed_content(&sha256, length)?;
        let item = self.mark_stored(document, fetched, &content)?;
        self.work.count_fetched_copy(length);
        Some(item)
    }

    /// Marks a pending document as stored, unless its content was replaced since its fetch began.
    /// Returns its item if it is settled now.
    fn mark_stored(
        &mut self,
        document: i64,
        fetched: &FetchedIdentity<'_>,
        content: &ContentRecord,
    ) -> Option<i64> {
        let row = self.pending(document)?;
        let (blob, expected) =
            (storable(fetched.blob.as_str()), storable(fetched.expected_blob.as_str()));
        let has_fetched_blob =
            row.blob == blob && row.size.is_none_or(|size| size == content.length);
        let has_expected_blob = row.blob == expected && row.blob != blob;
        if !has_fetched_blob && !has_expected_blob {
            return None;
        }
        let item = row.item;
        let rows = &mut self.work.rows;
        rows.documents.change(document, |row| {
            row.status = DOCUMENT_STORED;
            row.blob = blob.into_owned();
            row.size = fetched.size.map(to_integer);
            set_content(row, Some(content.clone()));
        });
        rows.details.delete_content(document);
        Some(item)
    }

    /// Marks a pending document as gone, unless its content was replaced since its fetch began. Its
    /// session is the one that found it gone: that does not fetch it again.
    fn mark_gone(&mut self, document: i64, expected_blob: &BlobId) -> Option<i64> {
        let row = self.pending(document)?;
        if row.blob != storable(expected_blob.as_str()) {
            return None;
        }
        let (item, session) = (row.item, self.work.session.no);
        let rows = &mut self.work.rows;
        rows.documents.change(document, |row| {
            row.status = DOCUMENT_GONE;
            row.session = Some(session);
        });
        rows.details.delete_content(document);
        Some(item)
    }

    /// Records that a document cannot be fetched or processed.
    fn fail_document(&mut self, document: i64, failure: &Failure) -> Option<i64> {
        let item = self.pending(document)?.item;
        let rows = &mut self.work.rows;
        rows.documents.change(document, |row| row.status = DOCUMENT_FAILED);
        rows.items.change(item, |row| {
            row.attempts += 1;
            row.cause = Some(failure.cause.name().to_owned());
            row.message = Some(failure.message.clone());
            row.failed_at = Some(self.now.0);
        });
        rows.details.store_response(item, failure, self.now);
        Some(item)
    }

    /// Records a failed attempt of a pending item, and the time of the next one.
    fn schedule_retry(
        &mut self,
        item: i64,
        counts: &ItemFailureCounts,
        next_attempt_at: Timestamp,
        failure: &Failure,
    ) {
        let rows = &mut self.work.rows;
        let is_pending = rows.items.get(item).is_ok_and(|row| row.status == ITEM_PENDING);
        if !is_pending {
            return;
        }
        rows.items.change(item, |row| {
            row.attempts = i64::from(counts.failed_attempts);
            // 0 would mean that it was never tried.
            row.next_at = next_attempt_at.0.max(1);
            row.cause = Some(failure.cause.name().to_owned());
            row.message = Some(failure.message.clone());
            row.failed_at = Some(self.now.0);
        });
        rows.details.store_trial(item, counts);
        rows.details.store_response(item, failure, self.now);
    }

    /// Returns a document if it is pending.
    fn pending(&self, document: i64) -> Option<&DocumentRecord> {
        let row = self.work.rows.documents.get(document)?;
        (row.status == DOCUMENT_PENDING).then_some(row)
    }
}
