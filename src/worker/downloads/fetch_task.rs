//! Documents on their way, and what is known of those that were throttled.

use std::collections::BTreeMap;

use crate::engine::{BlobId, ItemId, ThrottleStrikes, Timestamp};
use crate::ledger::{DocumentRowId, DueItem, ItemRowId, PendingDocument};
use crate::source::DocumentRef;

/// One document to fetch.
#[derive(Debug)]
pub(in crate::worker) struct FetchTask {
    pub item: ItemRowId,
    pub item_id: ItemId,
    pub document_no: DocumentRowId,
    /// The blob by which the ledger knew it when it was taken.
    pub expected_blob: BlobId,
    pub document_ref: DocumentRef,
    pub control: ControlRequest,
    /// Its item failed since it was taken on.
    pub is_retry: bool,
    /// When its item first failed.
    pub failing_since: Option<Timestamp>,
    /// When it was taken to be fetched.
    pub started_at: Timestamp,
}

impl FetchTask {
    pub(super) fn new(
        work: &DueItem,
        document: PendingDocument,
        strikes: ThrottleStrikes,
        now: Timestamp,
    ) -> Self {
        let PendingDocument { row_id: no, id, blob, size, .. } = document;
        Self {
            item: work.row_id,
            item_id: work.item.clone(),
            document_no: no,
            expected_blob: blob.clone(),
            document_ref: DocumentRef { strikes, ..DocumentRef::new(id, blob, size) },
            control: ControlRequest::NotNeeded,
            is_retry: work.is_retry,
            failing_since: work.failure_counts.failing_since,
            started_at: now,
        }
    }
}

/// A request for something else before a document that was throttled, where no other document is
/// there to tell whether that is its own affair.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::worker) enum ControlRequest {
    NotNeeded,
    Needed,
    /// It succeeded.
    Succeeded,
}

/// Documents that were throttled and did not succeed since.
#[derive(Debug, Default)]
pub(super) struct ThrottledDocuments {
    documents: BTreeMap<DocumentRowId, ThrottleRecord>,
}

#[derive(Clone, Copy, Debug)]
struct ThrottleRecord {
    strikes: ThrottleStrikes,
    /// Something else succeeded since.
    has_control_succeeded: bool,
}

impl ThrottledDocuments {
    /// The strikes of a document; where none are known here, those of its item in an earlier process.
    pub(super) fn strikes(&self, document: DocumentRowId, before: u32) -> ThrottleStrikes {
        self.documents
            .get(&document)
            .map_or_else(|| ThrottleStrikes::restore(before), |known| known.strikes)
    }

    /// Whether a document was throttled, and nothing succeeded since.
    pub(super) fn needs_control(&self, document: DocumentRowId) -> bool {
        self.documents.get(&document).is_some_and(|known| !known.has_control_succeeded)
    }

    pub(super) fn record_throttle(&mut self, document: DocumentRowId, strikes: ThrottleStrikes) {
        self.documents.insert(document, ThrottleRecord { strikes, has_control_succeeded: false });
    }

    /// A document was fetched: others are let through.
    pub(super) fn record_success(&mut self, document: DocumentRowId) {
        self.documents.remove(&document);
        self.documents.values_mut().for_each(|other| other.has_control_succeeded = true);
    }

    /// A document failed otherwise, which says nothing of its throttles.
    pub(super) fn record_failure(&mut self, document: DocumentRowId, control: ControlRequest) {
        if let Some(known) = self.documents.get_mut(&document) {
            known.has_control_succeeded |= control == ControlRequest::Succeeded;
        }
    }

    pub(super) fn remove(&mut self, document: DocumentRowId) {
        self.documents.remove(&document);
    }
}
