//! An item while it is fetched, and what of it failed.

use crate::engine::{Failure, ItemDecision, ItemFailureCounts, Timestamp};
use crate::ledger::DocumentRowId;

/// An item with documents that are not answered yet.
#[derive(Debug)]
pub(super) struct ItemInProgress {
    pub(super) failure_counts: ItemFailureCounts,
    /// When the first of its documents was asked for.
    pub(super) started_at: Option<Timestamp>,
    pub(super) outstanding: usize,
    /// Documents that may not be had, and why.
    pub(super) failed_documents: Vec<(DocumentRowId, Failure)>,
    /// What its worst other document deserves.
    pub(super) worst_failure: Option<(ItemDecision, Failure)>,
    /// Some of its documents will not be asked for: it stays unsettled.
    pub(super) is_cancelled: bool,
}

/// What is wrong with an answered document.
pub(super) enum DocumentResult {
    Settled,
    DocumentFailed(DocumentRowId, Failure),
    ItemFailed(ItemDecision, Failure),
}

/// Of two faults of one item, the one that sets it further back.
pub(super) fn worse_failure(
    known: Option<(ItemDecision, Failure)>,
    new: (ItemDecision, Failure),
) -> (ItemDecision, Failure) {
    match known {
        Some(known) if severity_rank(&known.0) > severity_rank(&new.0) => known,
        Some(_) | None => new,
    }
}

fn severity_rank(step: &ItemDecision) -> (bool, u32, u32) {
    match step {
        ItemDecision::Quarantine => (true, 0, 0),
        ItemDecision::Retry { failures: trial, .. } => {
            (false, trial.failed_attempts, trial.failed_requests)
        }
        ItemDecision::Gone | ItemDecision::NotCharged => (false, 0, 0),
    }
}
