//! Graceful shutdown: fetches in flight may finish, and their results are committed.

use std::time::Duration;

use futures_util::StreamExt;
use tracing::{error, warn};

use super::known_good::{FailedFetch, FailureOrigin};
use super::{EventLoop, LoopExit};
use crate::engine::RestartCause;
use crate::source::Source;
use crate::worker::env::Env;
use crate::worker::tasks::TaskResult;

/// Longest time for fetches in flight to finish when the worker is asked to stop. Far below
/// systemd's own limit of 90 s, since an operator waits for it.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(10);

impl<S: Source + 'static, E: Env> EventLoop<S, E> {
    /// Waits for fetches in flight, up to the timeout, and commits their results.
    pub(super) async fn shut_down(&mut self) {
        let timeout = if self.is_stuck() { Duration::ZERO } else { SHUTDOWN_TIMEOUT };
        let deadline = self.env.time().after(timeout);
        self.heartbeat.beat_within(timeout, "shutting down");
        self.downloads.cancel_queued(self.env.now());
        while self.downloads.in_flight() > 0 && self.env.now() < deadline.wall {
            tokio::select! {
                biased;
                Some(result) = self.tasks.next(), if !self.tasks.is_empty() => {
                    self.on_late_result(result);
                }
                () = self.env.sleep_until(deadline) => break,
            }
        }
        self.tasks.clear();
        loop {
            while let Some(result) = self.commits.next().await {
                self.on_late_result(result);
            }
            self.shift_ledger_deadlines().await;
            let Some(batch) = self.downloads.take_batch() else { break };
            self.start_commit(batch, self.env.now());
        }
        self.breakers.save(&*self.env).await;
        self.metrics_publication.is_forced = true;
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
    pub(super) fn on_late_result(&mut self, result: TaskResult) {
        self.record_attempt(&result);
        self.trace_result(&result);
        match result {
            TaskResult::Fetched { task, permit, result: Ok(spooled) } => {
                self.on_document_fetched(task, permit, spooled);
            }
            TaskResult::Fetched { task, permit, result: Err(failure) } => {
                let failed_at = self.env.now();
                if let Some(failed_fetch) =
                    self.defer_for_known_good(FailedFetch { task, permit, failure, failed_at })
                {
                    self.on_late_failure(failed_fetch);
                }
            }
            TaskResult::KnownGoodFetched(sent_at) => {
                for failed_fetch in self.on_known_good_result(sent_at) {
                    self.on_late_failure(failed_fetch);
                }
            }
            TaskResult::Committed { items, retry_at, stats, duration, result } => {
                self.downloads.on_committed(&items, retry_at);
                match result {
                    Ok(counts) => {
                        self.record_batch(stats, duration);
                        self.update_counts(counts);
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
