//! Handles task results, and turns each into an event for the machine.

use tracing::{debug, info, warn};

use super::known_good::{FailedFetch, FailureOrigin};
use super::{EventLoop, LoopExit, ProbeState, RunMode};
use crate::archive::SpooledDocument;
use crate::engine::{
    AfterWait, Cause, ErrorCategory, Event, Failure, RandomSample, RequestScope, State, Timestamp,
};
use crate::ledger::{ItemRowId, SessionCounts};
use crate::source::{CredentialChange, PollResult, Source};
use crate::worker::breakers::{CallPermit, OpenBreaker};
use crate::worker::commit_batch::BatchStats;
use crate::worker::downloads::FetchTask;
use crate::worker::env::Env;
use crate::worker::store::RecordedPage;
use crate::worker::tasks::TaskResult;

impl<S: Source + 'static, W: Env> EventLoop<S, W> {
    pub(super) async fn on_task_result(&mut self, done: TaskResult) {
        self.report_storage_health(&done);
        self.record_attempt(&done);
        self.trace_result(&done);
        if let TaskResult::Polled(end) = &done {
            self.is_polling = false;
            self.needs_final_poll &= end.is_err();
        }
        match done {
            TaskResult::BreakerOpen(shut) => {
                // A poll that the breaker rejected is repeated after the wait.
                self.is_polling = false;
                self.wait_for_breaker(shut).await;
            }
            TaskResult::Polled(Ok(PollResult::Changed)) => {
                self.handle_event(Event::ChangesFound).await;
            }
            TaskResult::ReconcileDue => {
                self.is_polling = false;
                self.handle_event(Event::ReconcileDue).await;
            }
            TaskResult::Polled(Ok(PollResult::Unchanged)) => {
                self.handle_event(Event::NoChanges).await;
            }
            TaskResult::PageListed(Ok(page)) => self.on_page_listed(page).await,
            TaskResult::Polled(Err(failure)) | TaskResult::PageListed(Err(failure)) => {
                self.on_failure(RequestScope::Listing, failure).await;
            }
            TaskResult::Probed(Ok(())) => self.probe = ProbeState::NotNeeded,
            TaskResult::DueItemsLoaded(Ok(batch)) => {
                let now = self.env.now();
                self.waiting_items = batch.waiting_items;
                self.downloads.enqueue(batch.items, batch.next_due_at, now);
            }
            TaskResult::Fetched { task: errand, permit: pass, result: answer } => {
                self.on_fetched(errand, pass, answer).await;
            }
            TaskResult::KnownGoodFetched(served) => self.on_known_good_fetched(served).await,
            TaskResult::Committed { items, retry_at, stats: weight, duration: took, result } => {
                if result.is_ok() {
                    self.record_batch(weight, took);
                }
                self.on_committed(&items, retry_at, weight, result).await;
            }
            TaskResult::SessionFinished(Ok(tally)) => {
                self.is_finishing = false;
                self.update_counts(tally);
                self.waiting_items = 0;
                self.handle_event(Event::AllItemsSettled).await;
            }
            TaskResult::CredentialRefreshed(Ok(CredentialChange::Changed)) => {
                self.handle_event(Event::CredentialChanged).await;
            }
            TaskResult::CredentialRefreshed(Ok(CredentialChange::Unchanged)) => {
                self.handle_event(Event::CredentialUnchanged).await;
            }
            TaskResult::CredentialRefreshed(Err(failure))
                if failure.cause == Cause::Unauthorized =>
            {
                self.handle_event(Event::CredentialUnchanged).await;
            }
            TaskResult::Probed(Err(failure))
            | TaskResult::DueItemsLoaded(Err(failure))
            | TaskResult::SessionFinished(Err(failure))
            | TaskResult::CredentialRefreshed(Err(failure)) => {
                self.cancel_tasks();
                self.on_failure(RequestScope::Session, failure).await;
            }
        }
    }

    async fn on_known_good_fetched(&mut self, served: Option<Timestamp>) {
        for failed in self.on_known_good_result(served) {
            // A failure after the known-good request starts a new series.
            let failed =
                if served.is_some() { self.defer_for_known_good(failed) } else { Some(failed) };
            if let Some(failed) = failed {
                self.on_item_failed(failed).await;
            }
        }
    }

    async fn on_page_listed(&mut self, page: RecordedPage) {
        self.update_counts(page.counts);
        if let Some(found) = page.reconciled {
            let (listed, gone, versions) = (found.listed, found.gone, found.versions);
            info!(listed, gone, versions, "everything was listed once more");
        }
        self.expected_documents = page.total.or(self.expected_documents);
        self.handle_event(Event::ProgressMade).await;
        if page.is_listing_complete {
            self.handle_event(Event::ListingCompleted).await;
        } else {
            self.start_listing();
        }
    }

    async fn on_fetched(
        &mut self,
        errand: FetchTask,
        pass: CallPermit,
        answer: Result<SpooledDocument, Failure>,
    ) {
        match answer {
            Ok(draft) => self.on_document_fetched(errand, pass, draft),
            Err(failure) => {
                let at = self.env.now();
                if let Some(failed) = self.defer_for_known_good(FailedFetch {
                    task: errand,
                    permit: pass,
                    failure,
                    failed_at: at,
                }) {
                    self.on_item_failed(failed).await;
                }
            }
        }
    }

    /// Handles a failed item, and the failure of the session if it escalates.
    async fn on_item_failed(&mut self, failed: FailedFetch) {
        let (item, failure) = (failed.task.item_id.clone(), failed.failure.clone());
        match self.attribute_failure(failed) {
            FailureOrigin::Session(failure) => {
                self.on_failure(RequestScope::Session, failure).await;
            }
            // This failure opened the breaker, or came while it was open.
            FailureOrigin::Provider if self.is_breaker_open_for(&failure) => {
                self.on_failure(RequestScope::Session, failure).await;
            }
            FailureOrigin::Provider | FailureOrigin::Item => info!(
                item = %item, cause = %failure.cause,
                r#type = failure.cause.category().name(), "recorded error: {failure}"
            ),
        }
    }

    pub(super) async fn on_committed(
        &mut self,
        items: &[ItemRowId],
        retry_at: Option<Timestamp>,
        weight: BatchStats,
        result: Result<SessionCounts, Failure>,
    ) {
        self.downloads.on_committed(items, retry_at);
        match result {
            Ok(tally) => {
                let has_settled = tally.settled() > self.counts.settled();
                self.update_counts(tally);
                self.throughput.record(tally.settled(), self.env.now());
                let has_progressed = has_settled || weight.documents > 0;
                let event =
                    if has_progressed { Event::ProgressMade } else { Event::AttemptsFailed };
                self.handle_event(event).await;
            }
            Err(failure) => {
                // Nothing of the batch is durable, so everything that depends on it starts again.
                self.cancel_tasks();
                self.on_failure(RequestScope::Session, failure).await;
            }
        }
    }

    pub(super) async fn on_failure(&mut self, scope: RequestScope, failure: Failure) {
        let draw: RandomSample = self.env.random_sample();
        let shut = self.breakers.open_breaker_for(failure.cause, scope);
        let failure = match &shut {
            Some(shut) => shut.annotate(&failure),
            None => failure,
        };
        let (cause, kind) = (failure.cause, failure.cause.category().name());
        if let State::Working(_) = self.machine.state {
            warn!(%cause, r#type = kind, "recorded error: {failure}");
        } else {
            debug!(%cause, r#type = kind, "recorded error, too late to matter: {failure}");
        }
        if failure.response.is_some() {
            self.unsaved_error_reply = Some(failure.clone());
        }
        self.handle_event(Event::Failed { scope, failure, sample: draw }).await;
        if let (Some(shut), State::Error { .. }) = (shut, self.machine.state) {
            self.wait_for_breaker(shut).await;
        }
    }

    /// Returns true if the failure of an item has opened a breaker, or came while it was open.
    fn is_breaker_open_for(&self, failure: &Failure) -> bool {
        self.is_downloading()
            && self.breakers.open_breaker_for(failure.cause, RequestScope::Item).is_some()
    }

    /// Records in the breakers of ledger and archive if storage worked.
    fn report_storage_health(&self, done: &TaskResult) {
        match done {
            TaskResult::Committed { result: Ok(_), .. } => self.breakers.record_storage_success(),
            TaskResult::PageListed(Ok(_))
            | TaskResult::DueItemsLoaded(Ok(_))
            | TaskResult::SessionFinished(Ok(_)) => {
                self.breakers.record_ledger_success();
            }
            TaskResult::Polled(Err(failure))
            | TaskResult::PageListed(Err(failure))
            | TaskResult::Probed(Err(failure))
            | TaskResult::DueItemsLoaded(Err(failure))
            | TaskResult::Fetched { result: Err(failure), .. }
            | TaskResult::Committed { result: Err(failure), .. }
            | TaskResult::SessionFinished(Err(failure))
            | TaskResult::CredentialRefreshed(Err(failure)) => {
                self.breakers.record_storage_failure(failure);
            }
            TaskResult::Polled(Ok(_))
            | TaskResult::ReconcileDue
            | TaskResult::KnownGoodFetched(_)
            | TaskResult::Probed(Ok(()))
            | TaskResult::Fetched { result: Ok(_), .. }
            | TaskResult::CredentialRefreshed(Ok(_))
            | TaskResult::BreakerOpen(_) => {}
        }
    }

    /// Ends a [`RunMode::Once`] run that would wait for manual intervention or has used up its
    /// retries.
    pub(super) fn exit_if_once_and_blocked(&mut self) {
        if self.mode != RunMode::Once || self.exit.is_some() {
            return;
        }
        let needs_a_person = self.machine.last_error.as_ref().is_some_and(|error| {
            error.cause.category() == ErrorCategory::Permanent
                || matches!(error.cause, Cause::Challenge | Cause::Storage | Cause::Ledger)
        });
        let hopeless = match self.machine.state {
            State::AuthFailed { .. } | State::Error { after_wait: AfterWait::Restart, .. } => true,
            State::Error { after_wait: AfterWait::Resume, .. } => {
                needs_a_person
                    || self.open_breaker.as_ref().is_some_and(OpenBreaker::needs_manual_close)
                    || self.has_never_worked()
                    || self.machine.retry_count > self.rules.max_retries
            }
            State::Idle { .. }
            | State::Working(_)
            | State::Completed
            | State::RateLimited { .. } => false,
        };
        if hopeless {
            self.exit = Some(LoopExit::GaveUp);
        }
    }
}
