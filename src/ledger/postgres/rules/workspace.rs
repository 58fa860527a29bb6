//! Copy of the rows that a change needs, on which it is decided.

use crate::ledger::postgres::records::{
    ContentRecord, DocumentRecord, ItemRecord, LoadedRows, SourceRecord, SupersededRecord, WriteSet,
};
use crate::ledger::postgres::rules::details::DetailChanges;
use crate::ledger::postgres::rules::document_rows::{DocumentRows, stored_content};
use crate::ledger::postgres::rules::item_rows::ItemRows;
use crate::ledger::postgres::rules::locations::{LocationChanges, LocationRecords};
use crate::ledger::postgres::rules::versions::EarlierVersions;

/// Rows of a change, as they are after its decisions so far. Only the rows that it changes are
/// written.
#[derive(Debug)]
pub(super) struct Workspace {
    pub(super) source: SourceRecord,
    loaded_source: SourceRecord,
    pub(super) items: ItemRows,
    pub(super) documents: DocumentRows,
    pub(super) versions: EarlierVersions,
    pub(super) locations: LocationChanges,
    pub(super) details: DetailChanges,
}

/// Columns of a new document.
#[derive(Debug)]
pub(super) struct NewDocument<'a> {
    pub(super) item: i64,
    pub(super) id: &'a str,
    pub(super) blob: &'a str,
    pub(super) size: Option<i64>,
    pub(super) status: u8,
    pub(super) content: Option<ContentRecord>,
}

impl Workspace {
    pub(super) fn new(rows: LoadedRows) -> Self {
        // Without an owner a source may have no row; then the write is refused.
        let source = rows.source.unwrap_or(SourceRecord {
            cursor: None,
            reconciled_at: None,
            lists_contents: false,
            next_item: 1,
            next_document: 1,
            revision: 0,
        });
        let mut documents = DocumentRows::new(rows.documents, rows.document_counts);
        documents.add_stored(rows.stored);
        documents.add_indexed(rows.indexed);
        Self {
            source: source.clone(),
            loaded_source: source,
            items: ItemRows::new(rows.items),
            documents,
            versions: EarlierVersions::new(rows.superseded),
            locations: LocationChanges::new(rows.locations),
            details: DetailChanges::new(rows.with_content),
        }
    }

    /// Adds an item that was never tried. Returns its number.
    pub(super) fn add_item(
        &mut self,
        id: &str,
        session: i64,
        status: u8,
        settled_at: Option<i64>,
    ) -> i64 {
        let no = self.source.next_item;
        self.source.next_item += 1;
        self.items.add(ItemRecord {
            no,
            id: id.to_owned(),
            session,
            status,
            attempts: 0,
            next_at: 0,
            cause: None,
            message: None,
            settled_at,
            failed_at: None,
            quarantines: 0,
            version: 0,
        });
        no
    }

    /// Adds a document. Returns its number.
    pub(super) fn add_document(&mut self, new: NewDocument<'_>) -> i64 {
        let no = self.source.next_document;
        self.source.next_document += 1;
        let mut row = DocumentRecord {
            no,
            item: new.item,
            id: new.id.to_owned(),
            blob: new.blob.to_owned(),
            size: new.size,
            status: new.status,
            session: None,
            file: None,
            length: None,
            sha256: None,
            version: 0,
        };
        set_content(&mut row, new.content);
        self.documents.add(row);
        no
    }

    /// Keeps the current content of a document as an earlier version.
    pub(super) fn supersede(&mut self, row: &DocumentRecord, at: i64) {
        let Some(content) = stored_content(row) else { return };
        self.versions.add(SupersededRecord {
            no: None,
            document: row.no,
            blob: row.blob.clone(),
            size: row.size,
            content,
            at,
        });
    }

    /// Returns the rows to write. The counters and the progress of the session are not among them.
    pub(super) fn into_write_set(self) -> WriteSet {
        let is_source_changed = self.source != self.loaded_source;
        let LocationRecords { added, deleted, mut renumbered, vanished } =
            self.locations.into_records();
        // A new document has no locations that another numbering could make void.
        let is_new = |document| self.documents.get(document).is_some_and(|row| row.version == 0);
        renumbered.retain(|folder| !is_new(folder.document));
        let (documents, indexed) = self.documents.into_changed();
        let (superseded, superseded_deleted) = self.versions.into_changes();
        let details = self.details.into_records();
        WriteSet {
            source: is_source_changed.then_some(self.source),
            items: self.items.into_changed(),
            documents,
            superseded,
            superseded_deleted,
            locations: added,
            locations_deleted: deleted,
            renumbered,
            vanished,
            labels: details.labels,
            contents: details.contents,
            contents_deleted: details.contents_deleted,
            indexed,
            trials: details.trials,
            trials_deleted: details.trials_deleted,
            responses: details.responses,
            ..WriteSet::default()
        }
    }
}

/// Sets the place of a document's bytes, or removes it.
pub(super) fn set_content(row: &mut DocumentRecord, content: Option<ContentRecord>) {
    row.session = content.as_ref().map(|content| content.session);
    row.length = content.as_ref().map(|content| content.length);
    (row.file, row.sha256) = content.map(|content| (content.file, content.sha256)).unzip();
}
