//! Known-good check: distinguishes items that fail in a row from a provider that is down.
//!
//! Before one more failure would count as an outage of the provider, a document that it served
//! before is fetched again. If that succeeds, the provider works, and the items are at fault.

use std::collections::VecDeque;

use cynosure_engine::{ClockStep, Failure, Timestamp};

use crate::source::DocumentRef;
use crate::worker::breakers::CallPermit;
use crate::worker::downloads::FetchTask;
use crate::worker::tasks::KNOWN_GOOD_CANDIDATES_MAX;

/// Failures that wait for the result of a known-good request.
#[derive(Debug, Default)]
pub(super) struct KnownGoodCheck {
    pub pending_failures: Vec<FailedFetch>,
    /// Newest documents that were fetched in this run: the ledger has them only once their batch is
    /// committed.
    pub served_documents: VecDeque<DocumentRef>,
}

/// Failed fetch of a document.
#[derive(Debug)]
pub(super) struct FailedFetch {
    pub task: FetchTask,
    pub permit: CallPermit,
    pub failure: Failure,
    pub failed_at: Timestamp,
}

impl KnownGoodCheck {
    /// Records a document that was served.
    pub(super) fn record_served(&mut self, document_ref: &DocumentRef) {
        if self.served_documents.len() >= KNOWN_GOOD_CANDIDATES_MAX {
            self.served_documents.pop_front();
        }
        let DocumentRef { document, blob, size, locations, .. } = document_ref.clone();
        let document_ref = DocumentRef::new(document, blob, size).with_locations(locations);
        self.served_documents.push_back(document_ref);
    }

    /// Shifts the times of the pending failures by a clock step: their retries are timed from them.
    pub(super) fn shift_by(&mut self, step: ClockStep) {
        for pending in &mut self.pending_failures {
            pending.failed_at = pending.failed_at.shifted_by(step);
        }
    }
}
