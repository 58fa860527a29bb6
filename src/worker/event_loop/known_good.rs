//! Known-good check: distinguishes items that fail in a row from a provider that is down.
//!
//! Before one more failure would count as an outage of the provider, a document that it served
//! before is fetched again. If that succeeds, the provider works, and the items are at fault.

use std::collections::VecDeque;

use tracing::info;

use super::EventLoop;
use crate::archive::SpooledDocument;
use crate::engine::{Failure, Timestamp};
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
    fn record_served(&mut self, wanted: &DocumentRef) {
        if self.served_documents.len() >= tasks::KNOWN_GOOD_CANDIDATES_MAX {
            self.served_documents.pop_front();
        }
        let DocumentRef { document, blob, size, .. } = wanted.clone();
        self.served_documents.push_back(DocumentRef::new(document, blob, size));
    }

    /// Drops the pending failures: their documents are fetched again.
    pub(super) fn clear(&mut self) {
        self.pending_failures.clear();
    }
}

impl<S: Source + 'static, W: Env> EventLoop<S, W> {
    /// Defers a failure that would open a breaker or fail the session, until a known-good document
    /// was requested. Returns any other failure.
    pub(super) fn defer_for_known_good(&mut self, failed: FailedFetch) -> Option<FailedFetch> {
        let FailedFetch { task: errand, permit: pass, failure, failed_at: at } = &failed;
        let is_one_too_many = !self.downloads.is_item_specific_failure(errand, failure, *at)
            && (self.downloads.would_escalate(errand, failure)
                || pass.would_open(errand.item.0, failure));
        if !is_one_too_many {
            return Some(failed);
        }
        if self.known_good_check.pending_failures.is_empty() {
            self.tasks.push(tasks::fetch_known_good(
                &self.source,
                &self.store,
                self.known_good_check.served_documents.iter().cloned().collect(),
            ));
        }
        self.known_good_check.pending_failures.push(failed);
        None
    }

    /// Handles the result of a known-good request: the time at which it was sent if it succeeded.
    /// Returns the failures that waited for it.
    pub(super) fn on_known_good_result(&mut self, served: Option<Timestamp>) -> Vec<FailedFetch> {
        if let Some(sent) = served {
            info!(
                "a stored document can still be fetched: the items that fail are at fault, not the provider"
            );
            self.downloads.record_known_good(sent, self.env.now());
            self.breakers.clear_provider_failures();
        }
        std::mem::take(&mut self.known_good_check.pending_failures)
    }

    /// Records a document that was fetched.
    pub(super) fn on_document_fetched(
        &mut self,
        errand: FetchTask,
        pass: CallPermit,
        draft: SpooledDocument,
    ) {
        self.metrics.update(|figures| figures.record_attempt(None));
        pass.record_item_result(errand.item.0, None);
        self.known_good_check.record_served(&errand.document_ref);
        let (now, draw) = (self.env.now(), self.env.random_sample());
        self.downloads.on_downloaded(errand, Ok(draft), now, draw);
    }

    /// Attributes a failure, and records it in breaker and metrics accordingly.
    pub(super) fn attribute_failure(&mut self, failed: FailedFetch) -> FailureOrigin {
        let FailedFetch { task: errand, permit: pass, failure, failed_at: at } = failed;
        let is_own = self.downloads.is_item_specific_failure(&errand, &failure, at);
        if is_own {
            pass.record_neutral();
        } else {
            self.metrics.update(|figures| figures.record_attempt(Some(failure.cause)));
            pass.record_item_result(errand.item.0, Some(&failure));
        }
        let draw = self.env.random_sample();
        match self.downloads.on_downloaded(errand, Err(failure), at, draw) {
            Some(failure) => FailureOrigin::Session(failure),
            None if is_own => FailureOrigin::Item,
            None => FailureOrigin::Provider,
        }
    }
}
