//! Fetch tasks, and records of the documents that were throttled.

use std::collections::BTreeMap;

use cynosure_engine::{BlobId, ItemId, ThrottleStrikes, Timestamp};

use crate::ledger::{DocumentRow, DocumentRowId, DueItem, ItemRowId};
use crate::source::DocumentRef;

/// Task to fetch one document.
#[derive(Debug)]
pub(in crate::worker) struct FetchTask {
    pub item: ItemRowId,
    pub item_id: ItemId,
    pub document: DocumentRowId,
    /// Blob under which the ledger knew the document when the task was created.
    pub expected_blob: BlobId,
    pub document_ref: DocumentRef,
    /// Names of the document's folders, if the response to its fetch reported them.
    pub folders: Vec<String>,
    pub control: ControlRequest,
    /// The item has failed since its download began.
    pub is_retry: bool,
    /// Time of the first failure of the item.
    pub failing_since: Option<Timestamp>,
    /// Time at which the task was taken from the queue.
    pub started_at: Timestamp,
}

impl FetchTask {
    pub(super) fn new(
        item: &DueItem,
        document: DocumentRow,
        strikes: ThrottleStrikes,
        now: Timestamp,
    ) -> Self {
        let DocumentRow { row_id, id, blob, size, locations, content } = document;
        let expected_blob = blob.clone();
        let document_ref = DocumentRef::new(id, blob, size).with_locations(locations);
        Self {
            item: item.row_id,
            item_id: item.item.clone(),
            document: row_id,
            expected_blob,
            document_ref: DocumentRef { content, strikes, ..document_ref },
            folders: Vec::new(),
            control: ControlRequest::NotNeeded,
            is_retry: item.is_retry,
            failing_since: item.failure_counts.failing_since,
            started_at: now,
        }
    }

    /// Returns the length of the document, if its listing contained it; else 0.
    pub(super) fn content_bytes(&self) -> usize {
        self.document_ref.content.as_ref().map_or(0, String::len)
    }
}

/// Request for something other than a document. It is sent before a document that was throttled if
/// no other document can show that the throttle is specific to this one.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::worker) enum ControlRequest {
    NotNeeded,
    Needed,
    Succeeded,
}

/// Documents that were throttled and have not succeeded since.
#[derive(Debug, Default)]
pub(super) struct ThrottledDocuments {
    documents: BTreeMap<DocumentRowId, ThrottleRecord>,
}

#[derive(Clone, Copy, Debug)]
struct ThrottleRecord {
    strikes: ThrottleStrikes,
    /// Another request has succeeded since.
    has_control_succeeded: bool,
}

impl ThrottledDocuments {
    /// Returns the strikes of a document. If none are known here, restores those of its item from
    /// an earlier process, `saved_strikes`.
    pub(super) fn strikes(&self, document: DocumentRowId, saved_strikes: u32) -> ThrottleStrikes {
        self.documents
            .get(&document)
            .map_or_else(|| ThrottleStrikes::restore(saved_strikes), |record| record.strikes)
    }

    /// Returns true if a document was throttled and no other request has succeeded since.
    pub(super) fn needs_control(&self, document: DocumentRowId) -> bool {
        self.documents.get(&document).is_some_and(|record| !record.has_control_succeeded)
    }

    pub(super) fn record_throttle(&mut self, document: DocumentRowId, strikes: ThrottleStrikes) {
        self.documents.insert(document, ThrottleRecord { strikes, has_control_succeeded: false });
    }

    /// Records that a document was fetched, so that other requests succeed.
    pub(super) fn record_success(&mut self, document: DocumentRowId) {
        self.documents.remove(&document);
        self.documents.values_mut().for_each(|other| other.has_control_succeeded = true);
    }

    /// Records a failure that is no throttle. It says nothing about the throttles of the document.
    pub(super) fn record_failure(&mut self, document: DocumentRowId, control: ControlRequest) {
        if let Some(record) = self.documents.get_mut(&document) {
            record.has_control_succeeded |= control == ControlRequest::Succeeded;
        }
    }

    pub(super) fn remove(&mut self, document: DocumentRowId) {
        self.documents.remove(&document);
    }
}
