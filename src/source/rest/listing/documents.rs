//! Documents of listed items: the rows themselves, or the response to a request for each item.

use std::collections::VecDeque;

use cynosure_engine::rest::{DocumentValues, FetchBody, RestProfile, RestRow, RestTables};
use cynosure_engine::{BlobId, DocumentId, ItemId, ListedDocument};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::source::rest::blob::to_blob;
use crate::source::rest::cursor::part_key;
use crate::source::rest::folder_names::NO_FOLDER_ID;
use crate::source::rest::listing::passes::RowHash;
use crate::source::rest::listing::progress::{ListProgress, is_default};

/// Maximum number of items of a list whose documents are requested again at its end. The page token
/// has them.
const DEFERRED_ITEMS_MAX: usize = 100;

/// Maximum number of times that an item which fails is moved behind the others.
const DEFERRALS_MAX: u32 = 2;

/// Item of a listed page whose documents are to be requested.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(in crate::source::rest) struct PendingItem {
    pub(super) id: String,
    /// Hash of the row, by which the item is seen.
    pub(super) row: RowHash,
    /// True if the page before had the row, too, so that its documents are counted already.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    is_repeated: bool,
    /// Number of times that the request for its documents failed, and it was moved behind the
    /// others.
    #[serde(default, skip_serializing_if = "is_default")]
    failures: u32,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    labels: Vec<(String, String)>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    keep: Vec<(String, String)>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    folders: Option<Vec<String>>,
}

/// Items of the last page whose documents are to be requested, one after the other.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default)]
pub(in crate::source::rest) struct PendingItems {
    #[serde(skip_serializing_if = "VecDeque::is_empty")]
    items: VecDeque<PendingItem>,
    /// Items that failed, whose documents are requested again at the end of the list.
    #[serde(skip_serializing_if = "VecDeque::is_empty")]
    deferred: VecDeque<PendingItem>,
    /// Progress in the documents of the first item.
    pub(super) progress: ListProgress,
    /// Documents of the first item, so far.
    documents: usize,
    /// Items in a row that the server listed and did not find.
    missing_in_a_row: u32,
}

impl PendingItem {
    pub(super) fn new(row: RestRow<'_>, hash: RowHash, is_repeated: bool) -> Self {
        let RestRow { id, keep, labels, folders, .. } = row;
        Self { id, row: hash, is_repeated, failures: 0, labels, keep, folders }
    }

    /// True if the request for its documents failed, and it was moved behind the others.
    pub(super) fn is_deferred(&self) -> bool {
        0 < self.failures
    }
}

impl PendingItems {
    pub(super) fn first(&self) -> Option<&PendingItem> {
        self.items.front()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Adds an item behind the others.
    pub(super) fn push(&mut self, item: PendingItem) {
        self.items.push_back(item);
    }

    /// Records documents of the first item. Returns the number of those that are to be counted.
    pub(super) fn record_documents(&mut self, documents: usize) -> usize {
        self.missing_in_a_row = 0;
        self.documents = self.documents.saturating_add(documents);
        let is_repeated = self.items.front().is_some_and(|item| item.is_repeated);
        if is_repeated { 0 } else { documents }
    }

    /// Ends the documents of the first item, and returns their number.
    pub(super) fn finish_first(&mut self) -> usize {
        self.progress = ListProgress::default();
        self.items.pop_front();
        std::mem::take(&mut self.documents)
    }

    /// Moves the first item, which failed, to the end of the list, or behind the others there.
    /// Returns false, and changes nothing, if no other is left that did not fail as often.
    #[must_use]
    pub(super) fn defer_first(&mut self) -> bool {
        let may_be_deferred = |item: &PendingItem| item.failures < DEFERRALS_MAX;
        let is_movable = match self.items.front() {
            None => false,
            Some(item) if item.is_deferred() => {
                may_be_deferred(item) && self.items.iter().skip(1).any(may_be_deferred)
            }
            Some(_) => self.deferred.len() < DEFERRED_ITEMS_MAX,
        };
        if !is_movable {
            return false;
        }
        let Some(mut item) = self.items.pop_front() else { return false };
        self.progress = ListProgress::default();
        self.documents = 0;
        item.failures += 1;
        if 1 < item.failures {
            self.items.push_back(item);
        } else if self.deferred.iter().all(|other| other.id != item.id) {
            self.deferred.push_back(item);
        }
        true
    }

    /// Begins with the items that failed. Returns false if there are none.
    #[must_use]
    pub(super) fn retry_deferred(&mut self) -> bool {
        self.items.append(&mut self.deferred);
        !self.items.is_empty()
    }

    /// Begins again with the documents of the first item. Returns false, and changes nothing, if
    /// that was done too often.
    #[must_use]
    pub(super) fn restart_first(&mut self) -> bool {
        let is_restarted = self.progress.restart();
        if is_restarted {
            self.documents = 0;
        }
        is_restarted
    }

    /// Leaves out the first item, because the server does not find it. Returns false, and changes
    /// nothing, if as many as `max` in a row were left out.
    #[must_use]
    pub(super) fn skip_missing(&mut self, max: u32) -> bool {
        if max <= self.missing_in_a_row {
            return false;
        }
        self.missing_in_a_row += 1;
        self.finish_first();
        true
    }
}

/// Returns the document that a row of a list is.
pub(super) fn document_of_row(
    profile: &RestProfile,
    part: Option<&str>,
    row: RestRow<'_>,
) -> ListedDocument {
    let item = row.id.clone();
    let id = row.document.clone().unwrap_or_else(|| row.id.clone());
    listed_document(profile, part, &item, id, row)
}

/// Returns the document that a row of the response for an item is.
pub(super) fn document_of_item(
    profile: &RestProfile,
    part: Option<&str>,
    item: &PendingItem,
    mut row: RestRow<'_>,
) -> ListedDocument {
    add_missing(&mut row.keep, &item.keep);
    add_missing(&mut row.labels, &item.labels);
    if row.folders.as_ref().is_none_or(Vec::is_empty) && item.folders.is_some() {
        row.folders.clone_from(&item.folders);
    }
    let id = row.id.clone();
    listed_document(profile, part, &item.id, id, row)
}

/// Returns the hash of a row with its part, by which it is known later: it changes with the value
/// that `[again]` compares, or else with anything in the row.
pub(in crate::source::rest) fn hash_row(
    tables: &RestTables,
    part: Option<&str>,
    row: &RestRow<'_>,
) -> RowHash {
    let compared = tables.again.as_ref().and_then(|again| again.compare.first(row.value));
    let state = compared.unwrap_or(row.value).to_string();
    let document = row.document.as_deref().unwrap_or_default();
    RowHash::of(&[part_key(part), &row.id, document, &state])
}

fn listed_document(
    profile: &RestProfile,
    part: Option<&str>,
    item: &str,
    id: String,
    row: RestRow<'_>,
) -> ListedDocument {
    let RestRow { keep, labels, folders, size, size_estimate, value, .. } = row;
    let folders = folder_ids(folders, part);
    let document = DocumentValues { id, keep };
    let content = match profile.tables.fetch.body {
        FetchBody::Row => Some(value.to_string()),
        FetchBody::Bytes | FetchBody::Json | FetchBody::Text { .. } => None,
    };
    let blob = match &content {
        Some(content) => row_blob(content),
        None => to_blob(profile, &document, item, part),
    };
    let row_size = content.as_ref().and_then(|content| u64::try_from(content.len()).ok());
    let size_estimate = size_estimate.or(row_size);
    let entry = ListedDocument::new(ItemId::new(item), DocumentId::new(document.id), blob);
    ListedDocument { size, size_estimate, folders, labels, content, ..entry }
}

/// Returns the ids of the folders of a document: those in its row, or its part. They are replaced
/// by names before the page is returned.
fn folder_ids(in_row: Option<Vec<String>>, part: Option<&str>) -> Vec<String> {
    match (in_row, part) {
        (Some(ids), _) if !ids.is_empty() => ids,
        (_, Some(part)) => vec![part.to_owned()],
        (Some(_), None) => vec![NO_FOLDER_ID.to_owned()],
        (None, None) => Vec::new(),
    }
}

/// Returns the blob id of a row that is the document: it changes with the row.
fn row_blob(content: &str) -> BlobId {
    let hash = Sha256::digest(content);
    let digits: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    BlobId::new(format!("sha256:{digits}"))
}

/// Adds named values whose names are not there.
fn add_missing(values: &mut Vec<(String, String)>, others: &[(String, String)]) {
    for (name, value) in others {
        if values.iter().all(|(known, _)| known != name) {
            values.push((name.clone(), value.clone()));
        }
    }
}
