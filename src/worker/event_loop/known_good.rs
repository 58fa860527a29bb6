//! Known-good check: distinguishes items that fail in a row from a provider that is down.
//!
//! Before one more failure would count as an outage of the provider, a document that it served
//! before is fetched again. If that succeeds, the provider works, and the items are at fault.

use std::collections::VecDeque;

use tracing::info;

use super::EventLoop;
use crate::archive::SpooledDocument;
use crate::engine::{ClockStep, Failure, Timestamp};
use crate::source::{DocumentRef, Source};
use crate::worker::breakers::CallPermit;
use crate::worker::downloads::FetchTask;
use crate::worker::env::Env;
use crate::worker::tasks;

/// Failures that wait for the result of a known-good request.
#[derive(Debug, Default)]
pub(super) struct KnownGoodCheck {
    pending_failures: Vec<FailedFetch>,
    /// Newest documents that were fetched in this run: the ledger has them only once their batch is
    /// committed.
    served_documents: VecDeque<DocumentRef>,
}

/// Failed fetch of a document.
#[derive(Debug)]
pub(super) struct FailedFetch {
    pub task: FetchTask,
    pub permit: CallPermit,
    pub failure: Failure,
    pub failed_at: Timestamp,
}

/// Origin to which a failure is attributed.
#[derive(Debug)]
pub(super) enum FailureOrigin {
    /// The item: the failure is not counted in the provider's breaker or metrics.
    Item,
    /// The provider, if more such failures follow.
    Provider,
    /// The session, which fails with it.
    Session(Failure),
}

impl KnownGoodCheck {
    /// Records a document that was served.
    fn record_served(&mut self, document_ref: &DocumentRef) {
        if self.served_documents.len() >= tasks::KNOWN_GOOD_CANDIDATES_MAX {
            self.served_documents.pop_front();
        }
        let DocumentRef { document, blob, size, .. } = document_ref.clone();
        self.served_documents.push_back(DocumentRef::new(document, blob, size));
    }

    /// Drops the pending failures: their documents are fetched again.
    pub(super) fn clear(&mut self) {
        self.pending_failures.clear();
    }

    /// Shifts the times of the pending failures by a clock step: their retries are timed from them.
    pub(super) fn shift_by(&mut self, step: ClockStep) {
        for pending in &mut self.pending_failures {
            pending.failed_at = pending.failed_at.shifted_by(step);
        }
    }
}

impl<S: Source + 'static, E: Env> EventLoop<S, E> {
    /// Defers a failure that would open a breaker or fail the session, until a known-good document
    /// was requested. Returns any other failure.
    pub(super) fn defer_for_known_good(
        &mut self,
        failed_fetch: FailedFetch,
    ) -> Option<FailedFetch> {
        let FailedFetch { task, permit, failure, failed_at } = &failed_fetch;
        let is_check_needed = !self.downloads.is_item_specific_failure(task, failure, *failed_at)
            && (self.downloads.would_escalate(task, failure)
                || permit.would_open(task.item.0, failure));
        if !is_check_needed {
            return Some(failed_fetch);
        }
        if self.known_good_check.pending_failures.is_empty() {
            self.tasks.push(tasks::fetch_known_good(
                &self.source,
                &self.store,
                self.known_good_check.served_documents.iter().cloned().collect(),
            ));
        }
        self.known_good_check.pending_failures.push(failed_fetch);
        None
    }

    /// Handles the result of a known-good request: the time at which it was sent if it succeeded.
    /// Returns the failures that waited for it.
    pub(super) fn on_known_good_result(&mut self, sent_at: Option<Timestamp>) -> Vec<FailedFetch> {
        if let Some(sent_at) = sent_at {
            info!("a stored document can be fetched: the failing items are at fault");
            self.downloads.record_known_good(sent_at, self.env.now());
            self.breakers.clear_provider_failures();
        }
        std::mem::take(&mut self.known_good_check.pending_failures)
    }

    /// Records a document that was fetched.
    pub(super) fn on_document_fetched(
        &mut self,
        task: FetchTask,
        permit: CallPermit,
        spooled: SpooledDocument,
    ) {
        self.metrics.update(|metrics| metrics.record_attempt(None));
        permit.record_item_result(task.item.0, None);
        self.known_good_check.record_served(&task.document_ref);
        let (now, sample) = (self.env.now(), self.env.random_sample());
        self.downloads.on_downloaded(task, Ok(spooled), now, sample);
    }

    /// Attributes a failure, and records it in breaker and metrics accordingly.
    pub(super) fn attribute_failure(&mut self, failed_fetch: FailedFetch) -> FailureOrigin {
        let FailedFetch { task, permit, failure, failed_at } = failed_fetch;
        let is_item_specific = self.downloads.is_item_specific_failure(&task, &failure, failed_at);
        if is_item_specific {
            permit.record_neutral();
        } else {
            self.metrics.update(|metrics| metrics.record_attempt(Some(failure.cause)));
            permit.record_item_result(task.item.0, Some(&failure));
        }
        let sample = self.env.random_sample();
        match self.downloads.on_downloaded(task, Err(failure), failed_at, sample) {
            Some(failure) => FailureOrigin::Session(failure),
            None if is_item_specific => FailureOrigin::Item,
            None => FailureOrigin::Provider,
        }
    }
}
