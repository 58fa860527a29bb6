//! An item while it is fetched, and what of it failed.

use crate::engine::{Failure, ItemStep, Moment, Trial};
use crate::ledger::DocumentNo;

/// An item with documents that are not answered yet.
#[derive(Debug)]
pub(super) struct Open {
    pub(super) trial: Trial,
    /// When the first of its documents was asked for.
    pub(super) began: Option<Moment>,
    pub(super) unanswered: usize,
    /// Documents that may not be had, and why.
    pub(super) refused: Vec<(DocumentNo, Failure)>,
    /// What its worst other document deserves.
    pub(super) fault: Option<(ItemStep, Failure)>,
    /// Some of its documents will not be asked for: it stays unsettled.
    pub(super) abandoned: bool,
}

/// What is wrong with an answered document.
pub(super) enum Flaw {
    None,
    Refused(DocumentNo, Failure),
    Failed(ItemStep, Failure),
}

/// Of two faults of one item, the one that sets it further back.
pub(super) fn worse(
    known: Option<(ItemStep, Failure)>,
    new: (ItemStep, Failure),
) -> (ItemStep, Failure) {
    match known {
        Some(known) if weight(&known.0) > weight(&new.0) => known,
        Some(_) | None => new,
    }
}

fn weight(step: &ItemStep) -> (bool, u32, u32) {
    match step {
        ItemStep::Quarantine => (true, 0, 0),
        ItemStep::Retry { trial, .. } => (false, trial.attempts, trial.requests),
        ItemStep::Gone | ItemStep::Unharmed => (false, 0, 0),
    }
}
