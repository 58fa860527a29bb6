//! Handles task results, and turns each into an event for the machine.

use std::time::Duration;

use cynosure_engine::{
    AfterWait, Cause, ErrorCategory, Event, Failure, RandomSample, RequestScope, State,
};
use tracing::{debug, info, warn};

use super::work::ProbeState;
use super::{EventLoop, LoopExit, RunMode};
use crate::env::Env;
use crate::ledger::SessionCounts;
use crate::source::{CredentialChange, PollResult, Source};
use crate::worker::breakers::OpenBreaker;
use crate::worker::commit_batch::BatchStats;
use crate::worker::request_result::RequestResult;
use crate::worker::store::RecordedPage;
use crate::worker::tasks::TaskResult;

impl<S: Source + 'static, E: Env> EventLoop<S, E> {
    pub(super) async fn on_task_result(&mut self, task_result: TaskResult) {
        if let Some(result) = RequestResult::new(&task_result, self.work.last_request_at) {
            self.observers.on_request(result, &self.machine, self.deps.env.now());
        }
        if let TaskResult::Polled(result) = &task_result {
            self.work.is_polling = false;
            self.work.needs_final_poll &= result.is_err();
        }
        match task_result {
            TaskResult::BreakerOpen(breaker) => {
                // A poll that the breaker rejected is repeated after the wait.
                self.work.is_polling = false;
                self.wait_for_breaker(breaker).await;
            }
            TaskResult::Polled(Ok(PollResult::Changed)) => {
                self.handle_event(Event::ChangesFound).await;
            }
            TaskResult::ReconcileDue => {
                self.work.is_polling = false;
                self.handle_event(Event::ReconcileDue).await;
            }
            TaskResult::Polled(Ok(PollResult::Unchanged)) => {
                self.handle_event(Event::NoChanges).await;
            }
            TaskResult::PageListed(Ok(page)) => self.on_page_listed(page).await,
            TaskResult::Polled(Err(failure)) | TaskResult::PageListed(Err(failure)) => {
                self.on_failure(RequestScope::Listing, failure).await;
            }
            TaskResult::Probed(Ok(())) => self.work.probe = ProbeState::NotNeeded,
            TaskResult::DueItemsLoaded(Ok(due)) => {
                let now = self.deps.env.now();
                self.progress.waiting_items = due.waiting_items;
                self.work.downloads.enqueue(due.items, due.next_due_at, now);
            }
            TaskResult::Fetched { task, permit, result } => {
                if let Some(failed_fetch) = self.record_fetch(task, permit, result) {
                    self.on_item_failed(failed_fetch).await;
                }
            }
            TaskResult::KnownGoodFetched(sent_at) => self.on_known_good_fetched(sent_at).await,
            TaskResult::Committed { items, retry_at, stats, duration, result } => {
                self.work.downloads.on_committed(&items, retry_at);
                self.on_committed(stats, duration, result).await;
            }
            TaskResult::SessionFinished(Ok(counts)) => {
                self.work.is_finishing = false;
                self.progress.update_counts(counts, &self.observers);
                self.progress.waiting_items = 0;
                self.read_archive_totals().await;
                self.handle_event(Event::AllItemsSettled).await;
            }
            TaskResult::CredentialRefreshed(Ok(CredentialChange::Changed)) => {
                self.handle_event(Event::CredentialChanged).await;
            }
            TaskResult::CredentialRefreshed(Ok(CredentialChange::Unchanged)) => {
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

    async fn on_page_listed(&mut self, page: RecordedPage) {
        self.progress.update_counts(page.counts, &self.observers);
        if let Some(reconciled) = page.reconciled {
            let SessionCounts { listed, gone, versions, .. } = reconciled;
            info!(listed, gone, versions, "reconcile completed");
        }
        self.progress.expected_documents = page.total.or(self.progress.expected_documents);
        self.handle_event(Event::ProgressMade).await;
        if page.is_listing_complete {
            self.handle_event(Event::ListingCompleted).await;
        } else {
            self.start_listing();
        }
    }

    async fn on_committed(
        &mut self,
        stats: BatchStats,
        duration: Duration,
        result: Result<SessionCounts, Failure>,
    ) {
        match result {
            Ok(counts) => {
                self.observers.on_batch_committed(stats, duration);
                let has_settled = counts.settled() > self.progress.counts.settled();
                self.progress.record_commit(counts, &self.observers);
                self.progress.record_throughput(self.deps.env.now());
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
        let sample: RandomSample = self.deps.env.random_sample();
        let breaker = self.deps.breakers.open_breaker_for(failure.cause, scope);
        let failure = match &breaker {
            Some(breaker) => breaker.annotate(&failure),
            None => failure,
        };
        let (cause, category) = (failure.cause, failure.cause.category().name());
        let is_new = !self.machine.is_known_throttle(&failure, self.deps.env.now());
        if matches!(self.machine.state, State::Working(_)) && is_new {
            warn!(%cause, r#type = category, error = %failure, "recorded error");
        } else {
            debug!(%cause, r#type = category, error = %failure, "ignored late error");
        }
        if failure.response.is_some() {
            self.publication.unsaved_error_response = Some(failure.clone());
        }
        self.handle_event(Event::Failed { scope, failure, sample }).await;
        if let (Some(breaker), State::Error { .. }) = (breaker, self.machine.state) {
            self.wait_for_breaker(breaker).await;
        }
    }

    /// Ends a [`RunMode::Once`] run that would wait for manual intervention or has used up its
    /// retries.
    pub(super) fn exit_if_once_and_blocked(&mut self) {
        if self.policy.mode != RunMode::Once || self.exit.is_some() {
            return;
        }
        let needs_intervention = self.machine.errors.last.as_ref().is_some_and(|error| {
            error.cause.category() == ErrorCategory::Permanent
                || matches!(error.cause, Cause::Challenge | Cause::Storage | Cause::Ledger)
        });
        let must_give_up = match self.machine.state {
            State::AuthFailed { .. } | State::Error { after_wait: AfterWait::Restart, .. } => true,
            State::Error { after_wait: AfterWait::Resume, .. } => {
                needs_intervention
                    || self.work.open_breaker.as_ref().is_some_and(OpenBreaker::needs_manual_close)
                    || self.progress.has_never_worked()
                    || self.machine.errors.retries > self.policy.machine_config.max_retries
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
