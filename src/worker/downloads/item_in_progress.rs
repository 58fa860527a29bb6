//! State of an item while its documents are fetched.

use cynosure_engine::{Failure, ItemDecision, ItemFailureCounts, Timestamp};

use crate::ledger::DocumentRowId;

/// Item with documents whose results are outstanding.
#[derive(Debug)]
pub(super) struct ItemInProgress {
    pub(super) failure_counts: ItemFailureCounts,
    /// Time at which the first of its documents was requested.
    pub(super) started_at: Option<Timestamp>,
    pub(super) outstanding: usize,
    /// Documents that cannot be fetched, each with its failure.
    pub(super) failed_documents: Vec<(DocumentRowId, Failure)>,
    /// Decision for the worst failure among its other documents.
    pub(super) worst_failure: Option<(ItemDecision, Failure)>,
    /// Some of its documents will not be requested, so the item stays unsettled.
    pub(super) is_cancelled: bool,
}

/// Result of one document, for its item.
pub(super) enum DocumentResult {
    Settled,
    DocumentFailed(DocumentRowId, Failure),
    ItemFailed(ItemDecision, Failure),
}

/// Returns the failure of an item that has the more severe decision.
pub(super) fn worse_failure(
    current: Option<(ItemDecision, Failure)>,
    new: (ItemDecision, Failure),
) -> (ItemDecision, Failure) {
    match current {
        Some(current) if severity_rank(&current.0) > severity_rank(&new.0) => current,
        Some(_) | None => new,
    }
}

fn severity_rank(decision: &ItemDecision) -> (bool, u32, u32) {
    match decision {
        ItemDecision::Quarantine => (true, 0, 0),
        ItemDecision::Retry { failures, .. } => {
            (false, failures.failed_attempts, failures.failed_requests)
        }
        ItemDecision::Gone | ItemDecision::NotCharged => (false, 0, 0),
    }
}
