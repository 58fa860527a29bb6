//! Rows of the ledger in PostgreSQL, as its functions return and take them: as JSON.

use serde::{Deserialize, Serialize};

/// State of a source, as far as a change needs it.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(super) struct SourceRecord {
    pub(super) cursor: Option<String>,
    pub(super) reconciled_at: Option<i64>,
    pub(super) lists_contents: bool,
    /// Number of the next new row. Only the owner of the source adds rows.
    pub(super) next_item: i64,
    pub(super) next_document: i64,
    /// Counts the changes of the source.
    pub(super) revision: i64,
}

/// A session, with the sums of its counters.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
pub(super) struct SessionRecord {
    pub(super) no: i64,
    pub(super) id: String,
    /// 0 full, 1 changes, 2 recheck, 3 reconcile.
    pub(super) kind: u8,
    /// 0 full, 1 changes, 2 nothing, 3 reconcile.
    pub(super) listing: u8,
    pub(super) started: i64,
    pub(super) completed: Option<i64>,
    pub(super) folder: Option<String>,
    pub(super) start_cursor: Option<String>,
    pub(super) page_token: Option<String>,
    pub(super) is_listed: bool,
    pub(super) counts: CounterRecord,
}

/// Counters of a session, or changes of them.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub(super) struct CounterRecord {
    pub(super) listed: i64,
    pub(super) stored: i64,
    pub(super) gone: i64,
    pub(super) quarantined: i64,
    pub(super) documents: i64,
    pub(super) bytes: i64,
    pub(super) versions: i64,
    pub(super) copies: i64,
    pub(super) copied_bytes: i64,
    pub(super) expected_bytes: i64,
}

/// An item. 0 pending, 1 stored, 2 gone, 3 quarantined.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(super) struct ItemRecord {
    pub(super) no: i64,
    pub(super) id: String,
    pub(super) session: i64,
    pub(super) status: u8,
    pub(super) attempts: i64,
    pub(super) next_at: i64,
    pub(super) cause: Option<String>,
    pub(super) message: Option<String>,
    pub(super) settled_at: Option<i64>,
    pub(super) failed_at: Option<i64>,
    pub(super) quarantines: i64,
    /// Counts the changes of the row; 0 for a row that is not in the table yet.
    pub(super) version: i32,
}

/// A document. 0 pending, 1 stored, 2 gone, 3 failed.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(super) struct DocumentRecord {
    pub(super) no: i64,
    pub(super) item: i64,
    pub(super) id: String,
    pub(super) blob: String,
    pub(super) size: Option<i64>,
    pub(super) status: u8,
    pub(super) session: Option<i64>,
    pub(super) file: Option<String>,
    pub(super) length: Option<i64>,
    /// In hexadecimal.
    pub(super) sha256: Option<String>,
    /// As that of an item.
    pub(super) version: i32,
}

/// Bytes in the archive.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(super) struct ContentRecord {
    pub(super) session: i64,
    pub(super) file: String,
    pub(super) length: i64,
    pub(super) sha256: String,
}

/// Earlier version of a document.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(super) struct SupersededRecord {
    /// `None` for a row that is to be added.
    pub(super) no: Option<i64>,
    pub(super) document: i64,
    pub(super) blob: String,
    pub(super) size: Option<i64>,
    #[serde(flatten)]
    pub(super) content: ContentRecord,
    pub(super) at: i64,
}

/// Place of a document. The numbers are 0 for a folder without numbers.
#[derive(Clone, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
pub(super) struct LocationRecord {
    pub(super) document: i64,
    pub(super) folder: String,
    pub(super) uid_validity: i64,
    pub(super) uid: i64,
}

/// Failure counts of a pending item.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(super) struct TrialRecord {
    pub(super) item: i64,
    pub(super) requests: i64,
    pub(super) strikes: i64,
    pub(super) since: Option<i64>,
}

/// Response of the server to a failed request; item 0 is the session.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(super) struct LastResponseRecord {
    pub(super) item: i64,
    pub(super) at: i64,
    pub(super) status: i32,
    /// A JSON list of pairs.
    pub(super) headers: String,
    pub(super) body: String,
    pub(super) is_cut: bool,
}

/// Rows that a page, a batch or a folder needs, as one state of the ledger has them.
#[derive(Debug, Default, Deserialize)]
pub(super) struct LoadedRows {
    pub(super) source: Option<SourceRecord>,
    /// The newest.
    pub(super) session: Option<SessionRecord>,
    pub(super) items: Vec<ItemRecord>,
    pub(super) documents: Vec<DocumentRecord>,
    /// Stored documents of the blobs of a page, at most 16 for each blob: with blob and size.
    pub(super) stored: Vec<DocumentRecord>,
    pub(super) superseded: Vec<SupersededRecord>,
    pub(super) locations: Vec<LocationRecord>,
    /// Documents whose listed content is kept.
    pub(super) with_content: Vec<i64>,
    /// Stored documents of the index of contents, of the hashes that a batch names.
    pub(super) indexed: Vec<DocumentRecord>,
    /// Documents of the items by status, for items of which not all documents are loaded.
    pub(super) document_counts: Vec<DocumentCountRecord>,
}

/// Number of documents of an item with a status.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
pub(super) struct DocumentCountRecord {
    pub(super) item: i64,
    pub(super) status: u8,
    pub(super) number: i64,
}

/// Changes that one transaction makes, under the epoch of the owner.
#[derive(Debug, Default, PartialEq, Serialize)]
pub(super) struct WriteSet {
    /// The whole row, if it changes.
    pub(super) source: Option<SourceRecord>,
    /// Number of the session to which the counters and the progress belong.
    pub(super) session: Option<i64>,
    pub(super) progress: Option<ProgressRecord>,
    pub(super) counters: CounterRecord,
    /// Added if their version is 0, else replaced; each must have the version that was loaded.
    pub(super) items: Vec<ItemRecord>,
    pub(super) documents: Vec<DocumentRecord>,
    pub(super) superseded: Vec<SupersededRecord>,
    pub(super) superseded_deleted: Vec<i64>,
    /// Added unless they are there.
    pub(super) locations: Vec<LocationRecord>,
    pub(super) locations_deleted: Vec<LocationRecord>,
    /// Numbered locations of a document in a folder whose `uid_validity` is another one are
    /// deleted, before `locations` are added.
    pub(super) renumbered: Vec<LocationRecord>,
    /// Deleted after all others are added, in this order, except the last numbered location of a
    /// document.
    pub(super) vanished: Vec<VanishedRecord>,
    pub(super) labels: Vec<LabelRecord>,
    pub(super) contents: Vec<ListedContentRecord>,
    pub(super) contents_deleted: Vec<i64>,
    /// Hashes with the document that has them.
    pub(super) indexed: Vec<IndexedRecord>,
    pub(super) trials: Vec<TrialRecord>,
    pub(super) trials_deleted: Vec<i64>,
    pub(super) responses: Vec<LastResponseRecord>,
}

/// Progress of a listing.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub(super) struct ProgressRecord {
    pub(super) page_token: Option<String>,
    pub(super) is_listed: bool,
}

#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub(super) struct VanishedRecord {
    pub(super) folder: String,
    pub(super) uid_validity: i64,
    pub(super) first: i64,
    pub(super) last: i64,
}

#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub(super) struct LabelRecord {
    pub(super) document: i64,
    pub(super) name: String,
    pub(super) value: String,
}

#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub(super) struct ListedContentRecord {
    pub(super) document: i64,
    pub(super) content: String,
}

#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub(super) struct IndexedRecord {
    pub(super) sha256: String,
    pub(super) document: i64,
}
