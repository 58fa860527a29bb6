//! Documents of a change: loaded, changed and new ones, and those whose bytes it may share.

use std::collections::{BTreeMap, BTreeSet};

use crate::ledger::postgres::records::{
    ContentRecord, DocumentCountRecord, DocumentRecord, IndexedRecord,
};
use crate::ledger::postgres::rules::column_values::DOCUMENT_STORED;

/// Stored documents of one blob that are compared with a listed one. Limited so that a server which
/// gives one blob id to everything costs no more than others.
const SAME_BLOB_ROWS_MAX: usize = 16;

/// Documents that a change needs, as they are after its decisions so far.
#[derive(Debug, Default)]
pub(super) struct DocumentRows {
    rows: BTreeMap<i64, DocumentRecord>,
    changed: BTreeSet<i64>,
    /// Numbers of the rows, by item and id.
    numbers: BTreeMap<i64, BTreeMap<String, i64>>,
    /// Stored documents that the change leaves as they are, and whose bytes it may share.
    others: BTreeMap<i64, DocumentRecord>,
    /// Numbers of the documents that have a blob, or had it before a decision.
    by_blob: BTreeMap<String, BTreeSet<i64>>,
    /// Documents in the index of contents, by hash.
    by_hash: BTreeMap<String, i64>,
    /// Hashes that the change adds to the index, or for which it names another document.
    newly_indexed: BTreeSet<String>,
    /// Numbers of documents that are not loaded, by item and status.
    unloaded: BTreeMap<(i64, u8), i64>,
}

impl DocumentRows {
    /// Takes the documents to be changed, and the numbers of all documents of their items. If the
    /// number of an item is missing, all its documents are loaded.
    pub(super) fn new(loaded: Vec<DocumentRecord>, counts: Vec<DocumentCountRecord>) -> Self {
        let mut documents = Self::default();
        for DocumentCountRecord { item, status, number } in counts {
            documents.unloaded.insert((item, status), number);
        }
        for row in loaded {
            if let Some(number) = documents.unloaded.get_mut(&(row.item, row.status)) {
                *number -= 1;
            }
            documents.insert(row);
        }
        documents
    }

    /// Adds stored documents whose bytes may be shared by their blobs.
    pub(super) fn add_stored(&mut self, stored: Vec<DocumentRecord>) {
        for row in stored {
            self.by_blob.entry(row.blob.clone()).or_default().insert(row.no);
            self.others.insert(row.no, row);
        }
    }

    /// Adds stored documents whose bytes may be shared by their hashes.
    pub(super) fn add_indexed(&mut self, indexed: Vec<DocumentRecord>) {
        for row in indexed {
            if let Some(sha256) = &row.sha256 {
                self.by_hash.insert(sha256.clone(), row.no);
            }
            self.others.insert(row.no, row);
        }
    }

    /// Finds a document by its item and its id at the source.
    pub(super) fn find(&self, item: i64, id: &str) -> Option<&DocumentRecord> {
        self.get(*self.numbers.get(&item)?.get(id)?)
    }

    pub(super) fn get(&self, no: i64) -> Option<&DocumentRecord> {
        self.rows.get(&no)
    }

    /// Changes a row, if there is one with this number. The row is written, even if it stays equal.
    pub(super) fn change(&mut self, no: i64, change: impl FnOnce(&mut DocumentRecord)) {
        if let Some(row) = self.rows.get_mut(&no) {
            change(row);
            self.changed.insert(no);
            self.by_blob.entry(row.blob.clone()).or_default().insert(no);
        }
    }

    /// Adds a row that is to be written.
    pub(super) fn add(&mut self, row: DocumentRecord) {
        self.changed.insert(row.no);
        self.insert(row);
    }

    /// Returns the number of documents of an item that have a status.
    pub(super) fn count(&self, item: i64, status: u8) -> i64 {
        let unloaded = self.unloaded.get(&(item, status)).copied().unwrap_or(0);
        let numbers = self.numbers.get(&item).into_iter().flat_map(BTreeMap::values);
        let rows = numbers.filter_map(|no| self.rows.get(no));
        unloaded + rows.filter(|row| row.status == status).map(|_| 1_i64).sum::<i64>()
    }

    /// Finds the bytes of a blob in the archive, under any id. Without a size, only a document
    /// without a size has them.
    pub(super) fn find_stored_content(
        &self,
        blob: &str,
        size: Option<i64>,
    ) -> Option<ContentRecord> {
        let numbers = self.by_blob.get(blob)?.iter();
        let rows = numbers.filter_map(|no| self.get_any(*no));
        let stored = rows.filter(|row| row.status == DOCUMENT_STORED && row.blob == blob);
        let has_size = |row: &&DocumentRecord| match size {
            Some(_) => row.length == size,
            None => row.size.is_none(),
        };
        stored.take(SAME_BLOB_ROWS_MAX).find(has_size).and_then(stored_content)
    }

    /// Finds the file with the bytes of this hash. The index may name a document that has other
    /// bytes by now, or is no longer stored; then there is none.
    pub(super) fn find_indexed_content(&self, sha256: &str, length: i64) -> Option<ContentRecord> {
        let row = self.get_any(*self.by_hash.get(sha256)?)?;
        let has_bytes = row.sha256.as_deref() == Some(sha256) && row.length == Some(length);
        (row.status == DOCUMENT_STORED && has_bytes).then(|| stored_content(row)).flatten()
    }

    /// Adds the bytes of a stored document to the index of contents.
    pub(super) fn index_content(&mut self, sha256: String, document: i64) {
        self.newly_indexed.insert(sha256.clone());
        self.by_hash.insert(sha256, document);
    }

    /// Returns the rows to write, by number, and the changes of the index of contents.
    pub(super) fn into_changed(self) -> (Vec<DocumentRecord>, Vec<IndexedRecord>) {
        let Self { rows, changed, by_hash, newly_indexed, .. } = self;
        let rows = rows.into_values().filter(|row| changed.contains(&row.no));
        let indexed = by_hash.into_iter().filter(|(sha256, _)| newly_indexed.contains(sha256));
        let indexed = indexed.map(|(sha256, document)| IndexedRecord { sha256, document });
        (rows.collect(), indexed.collect())
    }

    /// Returns a document that the change may write, else one whose bytes it may share.
    fn get_any(&self, no: i64) -> Option<&DocumentRecord> {
        self.rows.get(&no).or_else(|| self.others.get(&no))
    }

    fn insert(&mut self, row: DocumentRecord) {
        self.numbers.entry(row.item).or_default().insert(row.id.clone(), row.no);
        self.by_blob.entry(row.blob.clone()).or_default().insert(row.no);
        self.rows.insert(row.no, row);
    }
}

/// Returns the place of the bytes that a row names; `None` if it names none.
pub(super) fn stored_content(row: &DocumentRecord) -> Option<ContentRecord> {
    Some(ContentRecord {
        session: row.session?,
        file: row.file.clone()?,
        length: row.length?,
        sha256: row.sha256.clone()?,
    })
}
