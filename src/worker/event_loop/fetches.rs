//! Handles the results of fetches, and attributes their failures.

use cynosure_engine::{Failure, RequestScope, Timestamp};
use tracing::info;

use super::EventLoop;
use super::known_good::FailedFetch;
use crate::archive::SpooledDocument;
use crate::env::Env;
use crate::source::Source;
use crate::worker::breakers::CallPermit;
use crate::worker::downloads::FetchTask;

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

impl<S: Source + 'static, E: Env> EventLoop<S, E> {
    /// Records the result of a fetch. Returns its failure, unless that waits for the known-good
    /// check.
    pub(super) fn record_fetch(
        &mut self,
        task: FetchTask,
        permit: CallPermit,
        result: Result<SpooledDocument, Failure>,
    ) -> Option<FailedFetch> {
        match result {
            Ok(spooled) => {
                self.observers.on_fetch(permit, task.item, None);
                self.work.known_good_check.record_served(&task.document_ref);
                let (now, sample) = (self.deps.env.now(), self.deps.env.random_sample());
                self.work.downloads.on_downloaded(task, Ok(spooled), now, sample);
                None
            }
            Err(failure) => {
                let failed_at = self.deps.env.now();
                let failed_fetch = FailedFetch { task, permit, failure, failed_at };
                self.work.defer_for_known_good(failed_fetch, &self.deps)
            }
        }
    }

    pub(super) async fn on_known_good_fetched(&mut self, sent_at: Option<Timestamp>) {
        for failed_fetch in self.take_known_good_failures(sent_at) {
            // A failure after the known-good request starts a new series.
            let failed_fetch = if sent_at.is_some() {
                self.work.defer_for_known_good(failed_fetch, &self.deps)
            } else {
                Some(failed_fetch)
            };
            if let Some(failed_fetch) = failed_fetch {
                self.on_item_failed(failed_fetch).await;
            }
        }
    }

    /// Handles the result of a known-good request: the time at which it was sent if it succeeded.
    /// Returns the failures that waited for it.
    pub(super) fn take_known_good_failures(
        &mut self,
        sent_at: Option<Timestamp>,
    ) -> Vec<FailedFetch> {
        if let Some(sent_at) = sent_at {
            info!("a stored document can be fetched: the failing items are at fault");
            self.work.downloads.record_known_good(sent_at, self.deps.env.now());
            self.observers.on_known_good_served();
        }
        std::mem::take(&mut self.work.known_good_check.pending_failures)
    }

    /// Handles a failed item, and the failure of the session that follows from it.
    pub(super) async fn on_item_failed(&mut self, failed_fetch: FailedFetch) {
        let (item, failure) = (failed_fetch.task.item_id.clone(), failed_fetch.failure.clone());
        match self.attribute_failure(failed_fetch) {
            FailureOrigin::Session(failure) => {
                self.on_failure(RequestScope::Session, failure).await;
            }
            // This failure opened the breaker, or came while it was open.
            FailureOrigin::Provider if self.is_breaker_open_for(&failure) => {
                self.work.downloads.release_forbidden();
                self.on_failure(RequestScope::Session, failure).await;
            }
            FailureOrigin::Provider | FailureOrigin::Item => info!(
                item = %item, cause = %failure.cause,
                r#type = failure.cause.category().name(), error = %failure, "recorded error"
            ),
        }
    }

    /// Attributes a failure, and records it accordingly.
    pub(super) fn attribute_failure(&mut self, failed_fetch: FailedFetch) -> FailureOrigin {
        let FailedFetch { task, permit, failure, failed_at } = failed_fetch;
        let downloads = &mut self.work.downloads;
        let is_item_specific = downloads.is_item_specific_failure(&task, &failure, failed_at);
        if is_item_specific {
            self.observers.on_item_failure(permit);
        } else {
            self.observers.on_fetch(permit, task.item, Some(&failure));
        }
        let sample = self.deps.env.random_sample();
        match downloads.on_downloaded(task, Err(failure), failed_at, sample) {
            Some(failure) => FailureOrigin::Session(failure),
            None if is_item_specific => FailureOrigin::Item,
            None => FailureOrigin::Provider,
        }
    }

    /// Returns true if the failure of an item has opened a breaker, or came while it was open.
    fn is_breaker_open_for(&self, failure: &Failure) -> bool {
        self.is_downloading()
            && self.deps.breakers.open_breaker_for(failure.cause, RequestScope::Item).is_some()
    }
}
