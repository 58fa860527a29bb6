//! An item while it is fetched, and what of it failed.

use crate::engine::{Failure, ItemDecision, ItemFailureCounts, Timestamp};
use crate::ledger::DocumentNo;

/// An item with documents that are not answered yet.
#[derive(Debug)]
pub(super) struct Open {
    pub(super) trial: ItemFailureCounts,
    /// When the first of its documents was asked for.
    pub(super) began: Option<Timestamp>,
    pub(super) unanswered: usize,
    /// Documents that may not be had, and why.
    pub(super) refused: Vec<(DocumentNo, Failure)>,
    /// What its worst other document deserves.
    pub(super) fault: Option<(ItemDecision, Failure)>,
    /// Some of its documents will not be asked for: it stays unsettled.
    pub(super) abandoned: bool,
}

/// What is wrong with an answered document.
pub(super) enum Flaw {
    None,
    Refused(DocumentNo, Failure),
    Failed(ItemDecision, Failure),
}

/// Of two faults of one item, the one that sets it further back.
pub(super) fn worse(
    known: Option<(ItemDecision, Failure)>,
    new: (ItemDecision, Failure),
) -> (ItemDecision, Failure) {
    match known {
        Some(known) if weight(&known.0) > weight(&new.0) => known,
        Some(_) | None => new,
    }
}

fn weight(step: &ItemDecision) -> (bool, u32, u32) {
    match step {
        ItemDecision::Quarantine => (true, 0, 0),
        ItemDecision::Retry { failures: trial, .. } => {
            (false, trial.failed_attempts, trial.failed_requests)
        }
        ItemDecision::Gone | ItemDecision::NotCharged => (false, 0, 0),
    }
}
