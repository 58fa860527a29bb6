//! Graceful shutdown: fetches in flight may finish, and their results are committed.

use std::time::Duration;

use cynosure_engine::RestartCause;
use futures_util::StreamExt;
use tracing::{error, warn};

use super::fetches::FailureOrigin;
use super::known_good::FailedFetch;
use super::{EventLoop, LoopExit};
use crate::env::Env;
use crate::source::Source;
use crate::worker::request_result::RequestResult;
use crate::worker::tasks::TaskResult;

/// Longest time for fetches in flight to finish when the worker is asked to stop. Far below
/// systemd's own limit of 90 s, since an operator waits for it.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(10);

impl<S: Source + 'static, E: Env> EventLoop<S, E> {
    /// Waits for fetches in flight, up to the timeout, and commits their results.
    pub(super) async fn shut_down(&mut self) {
        let timeout = if self.is_stuck() { Duration::ZERO } else { SHUTDOWN_TIMEOUT };
        let deadline = self.deps.env.time().after(timeout);
        self.deps.heartbeat.beat_within(timeout, "shutting down");
        self.work.downloads.cancel_queued(self.deps.env.now());
        while self.work.downloads.in_flight() > 0 && self.deps.env.now() < deadline.wall {
            tokio::select! {
                biased;
                Some(result) = self.work.tasks.next(), if !self.work.tasks.is_empty() => {
                    self.on_late_result(result);
                }
                () = self.deps.env.sleep_until(deadline) => break,
            }
        }
        self.work.tasks.clear();
        loop {
            while let Some(result) = self.work.commits.next().await {
                self.on_late_result(result);
            }
            self.shift_ledger_deadlines().await;
            let Some(batch) = self.work.downloads.take_batch() else { break };
            self.work.start_commit(&self.deps.store, batch, self.deps.env.now());
        }
        self.deps.breakers.save(&*self.deps.env).await;
        self.publication.are_metrics_forced = true;
        let machine = self.machine.clone();
        if let Err(failure) = self.save_state(&machine).await {
            error!(
                cause = %failure.cause, error = %failure,
                "cannot save the state during shutdown"
            );
        }
    }

    /// Returns true if the loop ends because it is stuck: its fetches in flight have had their
    /// time.
    fn is_stuck(&self) -> bool {
        self.exit == Some(LoopExit::Restart(RestartCause::Stuck))
    }

    /// Records a late task result, on which no decision depends any more.
    fn on_late_result(&mut self, result: TaskResult) {
        if let Some(result) = RequestResult::new(&result, self.work.last_request_at) {
            self.observers.on_late_request(result, &self.machine, self.deps.env.now());
        }
        match result {
            TaskResult::Fetched { task, permit, result } => {
                if let Some(failed_fetch) = self.record_fetch(task, permit, result) {
                    self.on_late_failure(failed_fetch);
                }
            }
            TaskResult::KnownGoodFetched(sent_at) => {
                for failed_fetch in self.take_known_good_failures(sent_at) {
                    self.on_late_failure(failed_fetch);
                }
            }
            TaskResult::Committed { items, retry_at, stats, duration, result } => {
                self.work.downloads.on_committed(&items, retry_at);
                match result {
                    Ok(counts) => {
                        self.observers.on_batch_committed(stats, duration);
                        self.progress.record_commit(counts, &self.observers);
                    }
                    Err(failure) => {
                        error!(cause = %failure.cause, error = %failure, "cannot commit a batch");
                    }
                }
            }
            TaskResult::Polled(_)
            | TaskResult::PageListed(_)
            | TaskResult::Probed(_)
            | TaskResult::DueItemsLoaded(_)
            | TaskResult::SessionFinished(_)
            | TaskResult::ReconcileDue
            | TaskResult::CredentialRefreshed(_)
            | TaskResult::BreakerOpen(_) => {}
        }
    }

    fn on_late_failure(&mut self, failed_fetch: FailedFetch) {
        if let FailureOrigin::Session(failure) = self.attribute_failure(failed_fetch) {
            warn!(cause = %failure.cause, error = %failure, "recorded error during shutdown");
        }
    }
}
