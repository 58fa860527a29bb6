//! Rows that are rebuilt from the files of an archive.

use cynosure_engine::{BlobId, DocumentLocation, Timestamp};
use serde_json::{Value, json};

use crate::ledger::postgres::records::{ContentRecord, LoadedRows, WriteSet};
use crate::ledger::postgres::rules::column_values::{
    DOCUMENT_STORED, ITEM_STORED, UNKNOWN_BLOB, to_hex, to_integer,
};
use crate::ledger::postgres::rules::workspace::{NewDocument, Workspace, set_content};
use crate::ledger::postgres::storable::storable;
use crate::ledger::{AdoptedDocument, AdoptionCounts};

/// Returns the keys of the rows that adopted documents need, as `load_page` takes them. They have
/// no blob, because the bytes of other documents are not needed.
pub(in crate::ledger::postgres) fn adoption_entries(documents: &[AdoptedDocument]) -> Value {
    let keys = documents.iter().map(|adopted| {
        let location = own_location(adopted);
        let location = location.as_ref();
        json!({
            "item": storable(adopted.item.as_str()),
            "document": storable(adopted.document.as_str()),
            "blob": null,
            "folder": location.map(|location| storable(&location.folder)),
            "uid_validity": location.map(|location| location.uid_validity),
            "uid": location.map(|location| location.uid),
        })
    });
    keys.collect()
}

/// Adopts documents of a folder, on the rows that they need. `session` is that of the folder.
pub(in crate::ledger::postgres) fn adopt_documents(
    rows: LoadedRows,
    session: i64,
    started: Timestamp,
    documents: &[AdoptedDocument],
) -> (WriteSet, AdoptionCounts) {
    let rows = Workspace::new(rows);
    let mut work = AdoptionWork { rows, session, started, counts: AdoptionCounts::default() };
    for document in documents {
        work.adopt_document(document);
    }
    (work.rows.into_write_set(), work.counts)
}

/// Rows of a part of a folder, with what it added.
#[derive(Debug)]
struct AdoptionWork {
    rows: Workspace,
    session: i64,
    started: Timestamp,
    counts: AdoptionCounts,
}

impl AdoptionWork {
    fn adopt_document(&mut self, adopted: &AdoptedDocument) {
        let item = self.adopt_item(&storable(adopted.item.as_str()));
        let id = storable(adopted.document.as_str());
        let blob = storable(adopted.blob.as_ref().map_or(UNKNOWN_BLOB, BlobId::as_str));
        let size = adopted.size.map(to_integer);
        let content = ContentRecord {
            session: self.session,
            file: adopted.file.clone(),
            length: to_integer(adopted.length),
            sha256: to_hex(&adopted.sha256),
        };
        let Some(known) = self.rows.documents.find(item, &id).cloned() else {
            let (status, content) = (DOCUMENT_STORED, Some(content));
            let new = NewDocument { item, id: &id, blob: &blob, size, status, content };
            let document = self.rows.add_document(new);
            self.counts.documents += 1;
            self.record_names(document, adopted);
            self.index_document(document, adopted);
            return;
        };
        self.record_names(known.no, adopted);
        let has_length = known.length == Some(content.length);
        if has_length && known.sha256.as_ref() == Some(&content.sha256) {
            if known.blob == UNKNOWN_BLOB {
                self.rows.documents.change(known.no, |row| {
                    row.blob = blob.into_owned();
                    row.size = size;
                });
            }
            self.counts.copies += 1;
            return;
        }
        self.rows.supersede(&known, self.started.0);
        self.rows.documents.change(known.no, |row| {
            row.blob = blob.into_owned();
            row.size = size;
            set_content(row, Some(content));
        });
        self.counts.versions += 1;
        self.index_document(known.no, adopted);
    }

    /// Assigns an item to the session, and adds it if it is not known. Returns its number.
    fn adopt_item(&mut self, id: &str) -> i64 {
        let session = self.session;
        let Some(item) = self.rows.items.find(id) else {
            return self.rows.add_item(id, session, ITEM_STORED, Some(self.started.0));
        };
        self.rows.items.change(item, |row| row.session = session);
        item
    }

    /// Records the labels and the folders of an adopted document.
    fn record_names(&mut self, document: i64, adopted: &AdoptedDocument) {
        self.rows.details.store_labels(document, &adopted.labels);
        self.rows.locations.record_folders(document, &adopted.folders);
    }

    /// Indexes the bytes of an adopted document that its location identifies, and records that
    /// location. Then documents with the same bytes, which have no files of their own, are fetched
    /// and not stored again.
    fn index_document(&mut self, document: i64, adopted: &AdoptedDocument) {
        if let Some(location) = own_location(adopted) {
            self.rows.documents.index_content(to_hex(&adopted.sha256), document);
            self.rows.locations.record(document, &location);
        }
    }
}

/// Returns the location of a document that only its location identifies.
fn own_location(adopted: &AdoptedDocument) -> Option<DocumentLocation> {
    let is_own_blob = |blob: &&BlobId| blob.as_str() == adopted.document.as_str();
    adopted.blob.as_ref().filter(is_own_blob).and_then(DocumentLocation::from_blob)
}
