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

impl<S: Source + 'static, E: Env> EventLoop<S, E> {
    pub(super) async fn on_task_result(&mut self, task_result: TaskResult) {
        self.report_storage_health(&task_result);
        self.record_attempt(&task_result);
        self.trace_result(&task_result);
        if let TaskResult::Polled(result) = &task_result {
            self.is_polling = false;
            self.needs_final_poll &= result.is_err();
        }
        match task_result {
            TaskResult::BreakerOpen(breaker) => {
                // A poll that the breaker rejected is repeated after the wait.
                self.is_polling = false;
                self.wait_for_breaker(breaker).await;
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
            TaskResult::DueItemsLoaded(Ok(due)) => {
                let now = self.env.now();
                self.waiting_items = due.waiting_items;
                self.downloads.enqueue(due.items, due.next_due_at, now);
            }
            TaskResult::Fetched { task, permit, result } => {
                self.on_fetched(task, permit, result).await;
            }
            TaskResult::KnownGoodFetched(sent_at) => self.on_known_good_fetched(sent_at).await,
            TaskResult::Committed { items, retry_at, stats, duration, result } => {
                if result.is_ok() {
                    self.record_batch(stats, duration);
                }
                self.on_committed(&items, retry_at, stats, result).await;
            }
            TaskResult::SessionFinished(Ok(counts)) => {
                self.is_finishing = false;
                self.update_counts(counts);
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

    async fn on_known_good_fetched(&mut self, sent_at: Option<Timestamp>) {
        for failed_fetch in self.on_known_good_result(sent_at) {
            // A failure after the known-good request starts a new series.
            let failed_fetch = if sent_at.is_some() {
                self.defer_for_known_good(failed_fetch)
            } else {
                Some(failed_fetch)
            };
            if let Some(failed_fetch) = failed_fetch {
                self.on_item_failed(failed_fetch).await;
            }
        }
    }

    async fn on_page_listed(&mut self, page: RecordedPage) {
        self.update_counts(page.counts);
        if let Some(reconciled) = page.reconciled {
            let SessionCounts { listed, gone, versions, .. } = reconciled;
            info!(listed, gone, versions, "reconcile completed");
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
        task: FetchTask,
        permit: CallPermit,
        result: Result<SpooledDocument, Failure>,
    ) {
        match result {
            Ok(spooled) => self.on_document_fetched(task, permit, spooled),
            Err(failure) => {
                let failed_at = self.env.now();
                if let Some(failed_fetch) =
                    self.defer_for_known_good(FailedFetch { task, permit, failure, failed_at })
                {
                    self.on_item_failed(failed_fetch).await;
                }
            }
        }
    }

    /// Handles a failed item, and the failure of the session if it escalates.
    async fn on_item_failed(&mut self, failed_fetch: FailedFetch) {
        let (item, failure) = (failed_fetch.task.item_id.clone(), failed_fetch.failure.clone());
        match self.attribute_failure(failed_fetch) {
            FailureOrigin::Session(failure) => {
                self.on_failure(RequestScope::Session, failure).await;
            }
            // This failure opened the breaker, or came while it was open.
            FailureOrigin::Provider if self.is_breaker_open_for(&failure) => {
                self.on_failure(RequestScope::Session, failure).await;
            }
            FailureOrigin::Provider | FailureOrigin::Item => info!(
                item = %item, cause = %failure.cause,
                r#type = failure.cause.category().name(), error = %failure, "recorded error"
            ),
        }
    }

    pub(super) async fn on_committed(
        &mut self,
        items: &[ItemRowId],
        retry_at: Option<Timestamp>,
        stats: BatchStats,
        result: Result<SessionCounts, Failure>,
    ) {
        self.downloads.on_committed(items, retry_at);
        match result {
            Ok(counts) => {
                let has_settled = counts.settled() > self.counts.settled();
                self.update_counts(counts);
                self.throughput.record(counts.settled(), self.env.now());
                let has_progressed = has_settled || stats.documents > 0;
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
        let sample: RandomSample = self.env.random_sample();
        let breaker = self.breakers.open_breaker_for(failure.cause, scope);
        let failure = match &breaker {
            Some(breaker) => breaker.annotate(&failure),
            None => failure,
        };
        let (cause, category) = (failure.cause, failure.cause.category().name());
        if let State::Working(_) = self.machine.state {
            warn!(%cause, r#type = category, error = %failure, "recorded error");
        } else {
            debug!(%cause, r#type = category, error = %failure, "ignored late error");
        }
        if failure.response.is_some() {
            self.unsaved_error_response = Some(failure.clone());
        }
        self.handle_event(Event::Failed { scope, failure, sample }).await;
        if let (Some(breaker), State::Error { .. }) = (breaker, self.machine.state) {
            self.wait_for_breaker(breaker).await;
        }
    }

    /// Returns true if the failure of an item has opened a breaker, or came while it was open.
    fn is_breaker_open_for(&self, failure: &Failure) -> bool {
        self.is_downloading()
            && self.breakers.open_breaker_for(failure.cause, RequestScope::Item).is_some()
    }

    /// Records a success or failure of ledger and archive in their breakers.
    fn report_storage_health(&self, task_result: &TaskResult) {
        match task_result {
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
        let needs_intervention = self.machine.last_error.as_ref().is_some_and(|error| {
            error.cause.category() == ErrorCategory::Permanent
                || matches!(error.cause, Cause::Challenge | Cause::Storage | Cause::Ledger)
        });
        let must_give_up = match self.machine.state {
            State::AuthFailed { .. } | State::Error { after_wait: AfterWait::Restart, .. } => true,
            State::Error { after_wait: AfterWait::Resume, .. } => {
                needs_intervention
                    || self.open_breaker.as_ref().is_some_and(OpenBreaker::needs_manual_close)
                    || self.has_never_worked()
                    || self.machine.retry_count > self.machine_config.max_retries
            }
            State::Idle { .. }
            | State::Working(_)
            | State::Completed
            | State::RateLimited { .. } => false,
        };
        if must_give_up {
            self.exit = Some(LoopExit::GaveUp);
        }
    }
}
