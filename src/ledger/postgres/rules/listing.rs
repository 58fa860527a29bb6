//! Pages of a listing, each with the token from which the listing continues.

use cynosure_engine::{
    Cursor, ListedDocument, NextPage, RecheckPolicy, Timestamp, VanishedMessages,
};
use serde_json::{Value, json};

use crate::ledger::PageCounts;
use crate::ledger::postgres::records::{DocumentRecord, LoadedRows, ProgressRecord, WriteSet};
use crate::ledger::postgres::rules::column_values::{
    DOCUMENT_FAILED, DOCUMENT_GONE, DOCUMENT_PENDING, DOCUMENT_STORED, ITEM_PENDING, LISTING_FULL,
    LISTING_RECONCILE, UNKNOWN_BLOB, to_integer,
};
use crate::ledger::postgres::rules::session_work::SessionWork;
use crate::ledger::postgres::rules::workspace::{NewDocument, set_content};
use crate::ledger::postgres::storable::storable;

/// Returns the keys of the rows that a page needs, as `load_page` takes them.
pub(in crate::ledger::postgres) fn page_entries(entries: &[ListedDocument]) -> Value {
    let keys = entries.iter().map(|entry| {
        let location = entry.location.as_ref();
        json!({
            "item": storable(entry.item.as_str()),
            "document": storable(entry.document.as_str()),
            "blob": storable(entry.blob.as_str()),
            "folder": location.map(|location| storable(&location.folder)),
            "uid_validity": location.map(|location| location.uid_validity),
            "uid": location.map(|location| location.uid),
        })
    });
    keys.collect()
}

/// Records a page and the token after it, on the rows that it needs.
///
/// # Errors
/// The reason, if no session is open or its listing is complete.
pub(in crate::ledger::postgres) fn record_page(
    rows: LoadedRows,
    entries: &[ListedDocument],
    vanished: &[VanishedMessages],
    next: &NextPage,
    now: Timestamp,
) -> Result<(WriteSet, PageCounts), String> {
    let work = SessionWork::open(rows)?;
    if work.session.is_listed {
        return Err("the listing of the session is complete".to_owned());
    }
    let mut page = PageWork { work, now, counts: PageCounts::default() };
    let progress = page.record_progress(next);
    page.record_kind(entries);
    entries.iter().try_for_each(|entry| page.record_entry(entry))?;
    let PageWork { mut work, counts, .. } = page;
    // After the entries, which may add a location to a document that was moved.
    for messages in vanished {
        work.rows.locations.vanish(messages);
    }
    // A listing causes no failure, so that no recheck has to be scheduled.
    work.settle_items(RecheckPolicy::IMMEDIATE, now)?;
    Ok((work.into_write_set(Some(progress)), counts))
}

/// Rows of one page, with what it added.
#[derive(Debug)]
struct PageWork {
    work: SessionWork,
    now: Timestamp,
    counts: PageCounts,
}

impl PageWork {
    fn record_progress(&mut self, next: &NextPage) -> ProgressRecord {
        let cursor = match next {
            NextPage::More(page_token) => {
                let page_token = Some(page_token.as_str().to_owned());
                return ProgressRecord { page_token, is_listed: false };
            }
            NextPage::Done(cursor) => cursor.as_ref().map(Cursor::as_str),
        };
        let session = &self.work.session;
        let source = &mut self.work.rows.source;
        if let Some(cursor) = cursor.or(session.start_cursor.as_deref()) {
            source.cursor = Some(cursor.to_owned());
        }
        if matches!(session.listing, LISTING_FULL | LISTING_RECONCILE) {
            source.reconciled_at = Some(self.now.0);
        }
        ProgressRecord { page_token: None, is_listed: true }
    }

    /// Records if the documents of a page have their contents. A page without documents does not
    /// show it.
    fn record_kind(&mut self, entries: &[ListedDocument]) {
        if !entries.is_empty() {
            let has_contents = entries.iter().any(|entry| entry.content.is_some());
            self.work.rows.source.lists_contents = has_contents;
        }
    }

    fn record_entry(&mut self, entry: &ListedDocument) -> Result<(), String> {
        let document = self.record_document(entry)?;
        self.record_location(document, entry);
        let rows = &mut self.work.rows;
        rows.locations.record_folders(document, &entry.folders);
        rows.details.store_labels(document, &entry.labels);
        let status = rows.documents.get(document).map(|row| row.status);
        if let Some(content) = &entry.content
            && matches!(status, Some(DOCUMENT_PENDING | DOCUMENT_FAILED))
        {
            rows.details.store_content(document, content);
        }
        Ok(())
    }

    /// Records the location of an entry, if it has one. Returns true if it was not known.
    fn record_location(&mut self, document: i64, entry: &ListedDocument) -> bool {
        let locations = &mut self.work.rows.locations;
        entry.location.as_ref().is_some_and(|location| locations.record(document, location))
    }

    /// Records the document of an entry, and returns its number.
    fn record_document(&mut self, entry: &ListedDocument) -> Result<i64, String> {
        let id = storable(entry.item.as_str());
        let Some(item) = self.work.rows.items.find(&id) else {
            let item = self.add_item(&id);
            return self.add_document(item, entry);
        };
        let id = storable(entry.document.as_str());
        let Some(known) = self.work.rows.documents.find(item, &id).cloned() else {
            return self.add_document(item, entry);
        };
        if was_adopted_as(&known, entry) {
            self.work.rows.documents.change(known.no, |row| set_blob(row, entry));
        } else if !has_same_content(&known, entry) {
            self.replace_content(&known, entry)?;
        } else {
            match known.status {
                DOCUMENT_GONE => self.refetch_gone(&known, entry)?,
                DOCUMENT_PENDING | DOCUMENT_FAILED => self.reopen_with_content(&known, entry)?,
                _ => {}
            }
        }
        Ok(known.no)
    }

    fn add_item(&mut self, id: &str) -> i64 {
        self.work.count_listed();
        self.counts.new_items += 1;
        let session = self.work.session.no;
        self.work.rows.add_item(id, session, ITEM_PENDING, None)
    }

    /// Adds a document that was not known, and returns its number.
    fn add_document(&mut self, item: i64, entry: &ListedDocument) -> Result<i64, String> {
        self.counts.new_documents += 1;
        let (id, blob) = (storable(entry.document.as_str()), storable(entry.blob.as_str()));
        let size = entry.size.map(to_integer);
        let content = self.work.rows.documents.find_stored_content(&blob, size);
        let is_copy = content.is_some();
        let status = if is_copy { DOCUMENT_STORED } else { DOCUMENT_PENDING };
        let new = NewDocument { item, id: &id, blob: &blob, size, status, content };
        let document = self.work.rows.add_document(new);
        if is_copy {
            self.work.count_copy();
            self.work.settle_later(item);
        } else {
            self.work.count_expected(entry.expected_size());
            self.assign_to_session(item)?;
        }
        Ok(document)
    }

    /// Replaces the content of a known document with that of an entry. Stored content is kept as an
    /// earlier version.
    fn replace_content(
        &mut self,
        known: &DocumentRecord,
        entry: &ListedDocument,
    ) -> Result<(), String> {
        let was_stored = known.status == DOCUMENT_STORED;
        let rows = &mut self.work.rows;
        if was_stored {
            rows.supersede(known, self.now.0);
        }
        let (blob, size) = (storable(entry.blob.as_str()), entry.size.map(to_integer));
        let restored = rows.versions.restore(known.no, &blob, size);
        let content = restored.or_else(|| rows.documents.find_stored_content(&blob, size));
        let is_copy = content.is_some();
        rows.documents.change(known.no, |row| {
            row.status = if is_copy { DOCUMENT_STORED } else { DOCUMENT_PENDING };
            set_blob(row, entry);
            set_content(row, content);
        });
        rows.details.delete_content(known.no);
        if was_stored {
            self.work.count_superseded();
        }
        if is_copy {
            self.work.count_copy();
            if was_stored {
                // There is nothing to fetch, and the item's status does not change.
                return Ok(());
            }
            self.work.settle_later(known.item);
        } else if known.status != DOCUMENT_PENDING {
            // The size of a pending document is counted already.
            self.work.count_expected(entry.expected_size());
        }
        self.assign_to_session(known.item)
    }

    /// Makes a document that is gone pending again, unless this session has already looked for it
    /// at the location of the entry.
    fn refetch_gone(
        &mut self,
        known: &DocumentRecord,
        entry: &ListedDocument,
    ) -> Result<(), String> {
        let was_found_gone_now = known.session == Some(self.work.session.no);
        let is_new_location = self.record_location(known.no, entry);
        if was_found_gone_now && !is_new_location {
            return Ok(());
        }
        self.work.rows.documents.change(known.no, |row| {
            row.status = DOCUMENT_PENDING;
            set_blob(row, entry);
        });
        if !was_found_gone_now {
            self.work.count_expected(entry.expected_size());
        }
        self.assign_to_session(known.item)
    }

    /// Makes a document due that was waiting for its content, such as one whose file was damaged.
    fn reopen_with_content(
        &mut self,
        known: &DocumentRecord,
        entry: &ListedDocument,
    ) -> Result<(), String> {
        let rows = &mut self.work.rows;
        if entry.content.is_none() || rows.details.has_content(known.no) {
            return Ok(());
        }
        rows.documents.change(known.no, |row| row.status = DOCUMENT_PENDING);
        self.assign_to_session(known.item)
    }

    fn assign_to_session(&mut self, item: i64) -> Result<(), String> {
        if self.work.reopen(item)? {
            self.counts.new_items += 1;
        }
        Ok(())
    }
}

/// True unless the blob or the size shows that an entry has other content than a known document.
fn has_same_content(known: &DocumentRecord, entry: &ListedDocument) -> bool {
    let sizes = exact_size(known).zip(entry.size.map(to_integer));
    known.blob == storable(entry.blob.as_str())
        && sizes.is_none_or(|(known, listed)| known == listed)
}

/// True if a known document was adopted without its blob, and an entry has the same size. Without a
/// size, the content is the same if the id of the document is that of its content.
fn was_adopted_as(known: &DocumentRecord, entry: &ListedDocument) -> bool {
    let is_same = match entry.size {
        Some(size) => exact_size(known) == Some(to_integer(size)),
        None => entry.blob.as_str() == entry.document.as_str(),
    };
    known.status == DOCUMENT_STORED && known.blob == UNKNOWN_BLOB && is_same
}

/// Returns the exact size of a known document in bytes, as stored or as listed.
fn exact_size(known: &DocumentRecord) -> Option<i64> {
    known.length.or(known.size)
}

fn set_blob(row: &mut DocumentRecord, entry: &ListedDocument) {
    row.blob = storable(entry.blob.as_str()).into_owned();
    row.size = entry.size.map(to_integer);
}
