//! Records the pages of a listing, each with the token from which the listing continues.

use std::collections::BTreeSet;

use cynosure_engine::{
    Cursor, DocumentId, ItemId, ListedDocument, NextPage, RecheckPolicy, Timestamp,
    VanishedMessages,
};
use rusqlite::{Connection, OptionalExtension, params};

use crate::ledger::sqlite::adopt::UNKNOWN_BLOB;
use crate::ledger::sqlite::contents::StoredContent;
use crate::ledger::sqlite::error::LedgerError;
use crate::ledger::sqlite::item_state::{OpenSession, find_item};
use crate::ledger::sqlite::locations::{LocationRecorder, delete_vanished};
use crate::ledger::sqlite::rows::{DocumentStatus, to_sql_integer};
use crate::ledger::sqlite::{labels, listed_contents};
use crate::ledger::{DocumentRowId, ItemRowId, ListingKind, PageCounts};

/// Stored documents of one blob that are compared with a listed one. Limited so that a server which
/// gives one blob id to everything costs no more than others.
const SAME_BLOB_ROWS_MAX: i64 = 16;

const SELECT_STORED_CONTENT: &str = "SELECT session, file, length, sha256 FROM
        (SELECT session, file, size, length, sha256 FROM documents
         WHERE blob = ?1 AND status = 1 LIMIT ?3)
    WHERE CASE WHEN ?2 IS NULL THEN size IS NULL ELSE length = ?2 END LIMIT 1";

pub(super) fn record_page(
    connection: &Connection,
    entries: &[ListedDocument],
    vanished: &[VanishedMessages],
    next: &NextPage,
    now: Timestamp,
) -> Result<PageCounts, LedgerError> {
    let session = OpenSession::load(connection)?;
    if session.row.is_listing_complete {
        return Err(LedgerError::Inconsistent("the listing of the session is complete".to_owned()));
    }
    store_progress(connection, &session, next, now)?;
    listed_contents::record_kind(connection, entries)?;
    let mut recorder = PageRecorder {
        connection,
        session,
        now,
        locations: LocationRecorder::new(connection),
        maybe_settled: BTreeSet::new(),
        counts: PageCounts::default(),
    };
    entries.iter().try_for_each(|entry| recorder.record_entry(entry))?;
    // After the entries, which may add a location to a document that was moved.
    vanished.iter().try_for_each(|messages| delete_vanished(connection, messages))?;
    // A listing causes no failure, so that no recheck has to be scheduled.
    recorder.session.settle_items(recorder.maybe_settled, RecheckPolicy::IMMEDIATE, now)?;
    recorder.session.write_counters()?;
    Ok(recorder.counts)
}

fn store_progress(
    connection: &Connection,
    session: &OpenSession<'_>,
    next: &NextPage,
    now: Timestamp,
) -> Result<(), LedgerError> {
    match next {
        NextPage::More(page_token) => connection.execute(
            "UPDATE sessions SET place = ?2 WHERE no = ?1",
            params![session.row.row_id, page_token.as_str()],
        )?,
        NextPage::Done(cursor) => {
            connection.execute(
                "UPDATE sessions SET place = NULL, is_listed = 1 WHERE no = ?1",
                [session.row.row_id],
            )?;
            let cursor = cursor.as_ref().or(session.row.start_cursor.as_ref());
            let lists_everything =
                matches!(session.row.listing, ListingKind::Full | ListingKind::Reconcile);
            connection.execute(
                "UPDATE source SET cursor = coalesce(?1, cursor),
                        reconciled_at = coalesce(?2, reconciled_at)",
                params![cursor.map(Cursor::as_str), lists_everything.then_some(now.0)],
            )?
        }
    };
    Ok(())
}

/// Recorder of one page.
struct PageRecorder<'a> {
    connection: &'a Connection,
    session: OpenSession<'a>,
    now: Timestamp,
    locations: LocationRecorder<'a>,
    /// Items that may have no pending document left.
    maybe_settled: BTreeSet<ItemRowId>,
    counts: PageCounts,
}

/// A document that was listed before.
struct KnownDocument {
    row_id: i64,
    status: DocumentStatus,
    blob: String,
    /// Session of the stored file; session that found the document gone, if that is known.
    session: Option<i64>,
    /// Exact size in bytes, as stored or as listed, if known.
    size: Option<i64>,
}

impl KnownDocument {
    /// True unless the blob or the size shows that an entry has other content.
    fn has_same_content(&self, entry: &ListedDocument) -> bool {
        let sizes = self.size.zip(entry.size.map(to_sql_integer));
        self.blob == entry.blob.as_str() && sizes.is_none_or(|(known, listed)| known == listed)
    }

    /// True if the document was adopted without its blob, and an entry has the same size. Without a
    /// size, the content is the same if the id of the document is that of its content.
    fn was_adopted_as(&self, entry: &ListedDocument) -> bool {
        let is_same = match entry.size {
            Some(size) => self.size == Some(to_sql_integer(size)),
            None => entry.blob.as_str() == entry.document.as_str(),
        };
        self.status == DocumentStatus::Stored && self.blob == UNKNOWN_BLOB && is_same
    }
}

impl PageRecorder<'_> {
    fn record_entry(&mut self, entry: &ListedDocument) -> Result<(), LedgerError> {
        let document = self.record_document(entry)?;
        self.record_location(document, entry)?;
        self.locations.record_folders(DocumentRowId(document), &entry.folders)?;
        labels::store(self.connection, DocumentRowId(document), &entry.labels)?;
        if let Some(content) = &entry.content {
            listed_contents::store(self.connection, DocumentRowId(document), content)?;
        }
        Ok(())
    }

    /// Records the location of an entry, if it has one. Returns true if it was not known.
    fn record_location(
        &mut self,
        document: i64,
        entry: &ListedDocument,
    ) -> Result<bool, LedgerError> {
        match &entry.location {
            Some(location) => self.locations.record(DocumentRowId(document), location),
            None => Ok(false),
        }
    }

    /// Records the document of an entry, and returns the number of its row.
    fn record_document(&mut self, entry: &ListedDocument) -> Result<i64, LedgerError> {
        let Some(item) = find_item(self.connection, entry.item.as_str())? else {
            let item = self.add_item(&entry.item)?;
            return self.add_document(item, entry);
        };
        let Some(known) = self.find_document(item, &entry.document)? else {
            return self.add_document(item, entry);
        };
        if known.was_adopted_as(entry) {
            self.set_blob(known.row_id, entry)?;
        } else if !known.has_same_content(entry) {
            self.replace_content(item, &known, entry)?;
        } else {
            match known.status {
                DocumentStatus::Gone => self.refetch_gone(item, &known, entry)?,
                DocumentStatus::Pending | DocumentStatus::Failed => {
                    self.reopen_with_content(item, known.row_id, entry)?;
                }
                DocumentStatus::Stored => {}
            }
        }
        Ok(known.row_id)
    }

    fn set_blob(&mut self, document: i64, entry: &ListedDocument) -> Result<(), LedgerError> {
        let sql = "UPDATE documents SET blob = ?2, size = ?3 WHERE no = ?1";
        let size = entry.size.map(to_sql_integer);
        self.connection.prepare_cached(sql)?.execute(params![
            document,
            entry.blob.as_str(),
            size
        ])?;
        Ok(())
    }

    fn add_item(&mut self, id: &ItemId) -> Result<ItemRowId, LedgerError> {
        let mut statement = self.connection.prepare_cached(
            "INSERT INTO items (id, session, status, attempts, next_at) VALUES (?1, ?2, 0, 0, 0)",
        )?;
        statement.execute(params![id.as_str(), self.session.row.row_id])?;
        self.session.count_listed();
        self.counts.new_items += 1;
        Ok(ItemRowId(self.connection.last_insert_rowid()))
    }

    /// Adds a document that was not known, and returns the number of its row.
    fn add_document(
        &mut self,
        item: ItemRowId,
        entry: &ListedDocument,
    ) -> Result<i64, LedgerError> {
        self.counts.new_documents += 1;
        if let Some(content) = self.find_stored_content(entry)? {
            let mut insert = self.connection.prepare_cached(
                "INSERT INTO documents (item, id, blob, size, status, session, file, length, sha256)
                 VALUES (?1, ?2, ?3, ?4, 1, ?5, ?6, ?7, ?8)",
            )?;
            insert.execute(params![
                item.0,
                entry.document.as_str(),
                entry.blob.as_str(),
                entry.size.map(to_sql_integer),
                content.session,
                content.file,
                content.length,
                content.sha256,
            ])?;
            self.session.count_copy();
            self.maybe_settled.insert(item);
            return Ok(self.connection.last_insert_rowid());
        }
        let mut insert = self.connection.prepare_cached(
            "INSERT INTO documents (item, id, blob, size, status) VALUES (?1, ?2, ?3, ?4, 0)",
        )?;
        insert.execute(params![
            item.0,
            entry.document.as_str(),
            entry.blob.as_str(),
            entry.size.map(to_sql_integer)
        ])?;
        let document = self.connection.last_insert_rowid();
        self.session.count_expected(entry.expected_size());
        self.assign_to_session(item)?;
        Ok(document)
    }

    /// Replaces the content of a known document with that of an entry. Stored content is kept as an
    /// earlier version.
    fn replace_content(
        &mut self,
        item: ItemRowId,
        known: &KnownDocument,
        entry: &ListedDocument,
    ) -> Result<(), LedgerError> {
        let was_stored = known.status == DocumentStatus::Stored;
        if was_stored {
            self.connection.execute(
                "INSERT INTO superseded (document, blob, size, session, file, length, sha256, at)
                 SELECT no, blob, size, session, file, length, sha256, ?2
                 FROM documents WHERE no = ?1",
                [known.row_id, self.now.0],
            )?;
            self.session.count_superseded();
        }
        let content = match self.restore_superseded(known.row_id, entry)? {
            None => self.find_stored_content(entry)?,
            content => content,
        };
        let status =
            if content.is_some() { DocumentStatus::Stored } else { DocumentStatus::Pending };
        self.connection.execute(
            "UPDATE documents SET status = ?2, blob = ?3, size = ?4, session = ?5, file = ?6,
                    length = ?7, sha256 = ?8
             WHERE no = ?1",
            params![
                known.row_id,
                status,
                entry.blob.as_str(),
                entry.size.map(to_sql_integer),
                content.as_ref().map(|content| content.session),
                content.as_ref().map(|content| &content.file),
                content.as_ref().map(|content| content.length),
                content.as_ref().map(|content| content.sha256),
            ],
        )?;
        listed_contents::delete(self.connection, DocumentRowId(known.row_id))?;
        if content.is_some() {
            self.session.count_copy();
            if was_stored {
                // There is nothing to fetch, and the item's status does not change.
                return Ok(());
            }
            self.maybe_settled.insert(item);
        } else if known.status != DocumentStatus::Pending {
            // The size of a pending document is counted already.
            self.session.count_expected(entry.expected_size());
        }
        self.assign_to_session(item)
    }

    /// Finds the bytes of an entry in the archive, under any id.
    ///
    /// Equal blobs are equal bytes only if the sizes agree, because a server may reuse an id. An
    /// entry without a size cannot be compared with a stored document that has one, and is fetched,
    /// because fetching twice is the lesser harm. If a source never reports sizes, the blob alone
    /// decides.
    fn find_stored_content(
        &self,
        entry: &ListedDocument,
    ) -> Result<Option<StoredContent>, LedgerError> {
        let mut statement = self.connection.prepare_cached(SELECT_STORED_CONTENT)?;
        let size = entry.size.map(to_sql_integer);
        let found = statement.query_row(
            params![entry.blob.as_str(), size, SAME_BLOB_ROWS_MAX],
            StoredContent::from_row,
        );
        Ok(found.optional()?)
    }

    /// Restores an earlier version of a document that has the content of an entry, if there is one.
    fn restore_superseded(
        &self,
        document: i64,
        entry: &ListedDocument,
    ) -> Result<Option<StoredContent>, LedgerError> {
        let mut statement = self.connection.prepare_cached(
            "DELETE FROM superseded WHERE no =
                 (SELECT max(no) FROM superseded WHERE document = ?1 AND blob = ?2
                  AND CASE WHEN ?3 IS NULL THEN size IS NULL ELSE length = ?3 END)
             RETURNING session, file, length, sha256",
        )?;
        let size = entry.size.map(to_sql_integer);
        let found = statement
            .query_row(params![document, entry.blob.as_str(), size], StoredContent::from_row);
        Ok(found.optional()?)
    }

    fn find_document(
        &self,
        item: ItemRowId,
        document: &DocumentId,
    ) -> Result<Option<KnownDocument>, LedgerError> {
        let sql = "SELECT no, status, blob, session, coalesce(length, size) AS size FROM documents
                   WHERE item = ?1 AND id = ?2";
        let mut statement = self.connection.prepare_cached(sql)?;
        let found = statement.query_row(params![item.0, document.as_str()], |row| {
            Ok(KnownDocument {
                row_id: row.get("no")?,
                status: row.get("status")?,
                blob: row.get("blob")?,
                session: row.get("session")?,
                size: row.get("size")?,
            })
        });
        Ok(found.optional()?)
    }

    /// Makes a document that is gone pending again, unless this session has already looked for it
    /// at the location of the entry.
    fn refetch_gone(
        &mut self,
        item: ItemRowId,
        known: &KnownDocument,
        entry: &ListedDocument,
    ) -> Result<(), LedgerError> {
        let was_found_gone_now = known.session == Some(self.session.row.row_id);
        let is_new_location = self.record_location(known.row_id, entry)?;
        if was_found_gone_now && !is_new_location {
            return Ok(());
        }
        self.connection.execute(
            "UPDATE documents SET status = 0, blob = ?2, size = ?3 WHERE no = ?1",
            params![known.row_id, entry.blob.as_str(), entry.size.map(to_sql_integer)],
        )?;
        if !was_found_gone_now {
            self.session.count_expected(entry.expected_size());
        }
        self.assign_to_session(item)
    }

    /// Makes a document due that was waiting for its content, such as one whose file was damaged.
    fn reopen_with_content(
        &mut self,
        item: ItemRowId,
        document: i64,
        entry: &ListedDocument,
    ) -> Result<(), LedgerError> {
        if entry.content.is_none()
            || listed_contents::contains(self.connection, DocumentRowId(document))?
        {
            return Ok(());
        }
        let sql = "UPDATE documents SET status = 0 WHERE no = ?1";
        self.connection.prepare_cached(sql)?.execute([document])?;
        self.assign_to_session(item)
    }

    fn assign_to_session(&mut self, item: ItemRowId) -> Result<(), LedgerError> {
        if self.session.reopen(item)? {
            self.counts.new_items += 1;
        }
        Ok(())
    }
}
