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
/// systemd's own limit of 90 s, since a person waits for it.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(10);

impl<S: Source + 'static, W: Env> EventLoop<S, W> {
    /// Waits for fetches in flight, up to the timeout, and commits their results.
    pub(super) async fn shut_down(&mut self) {
        let patience = if self.is_stuck() { Duration::ZERO } else { SHUTDOWN_TIMEOUT };
        let limit = self.env.time().after(patience);
        self.heartbeat.beat_within(patience, "leaving");
        self.downloads.cancel_queued(self.env.now());
        while self.downloads.in_flight() > 0 && self.env.now() < limit.wall {
            tokio::select! {
                biased;
                Some(done) = self.tasks.next(), if !self.tasks.is_empty() => self.on_late_result(done),
                () = self.env.sleep_until(limit) => break,
            }
        }
        self.tasks.clear();
        loop {
            while let Some(done) = self.commits.next().await {
                self.on_late_result(done);
            }
            self.shift_ledger_deadlines().await;
            let Some(group) = self.downloads.take_batch() else { break };
            self.start_commit(group, self.env.now());
        }
        self.breakers.save(&*self.env).await;
        self.metrics_publication.is_forced = true;
        let machine = self.machine.clone();
        if let Err(failure) = self.save_state(&machine).await {
            error!(cause = %failure.cause, "cannot save the state while leaving: {failure}");
        }
    }

    /// Returns true if the loop ends because it is stuck: its fetches in flight have had their
    /// time.
    fn is_stuck(&self) -> bool {
        self.exit == Some(LoopExit::Restart(RestartCause::Stuck))
    }

    /// Records a late task result, on which no decision depends any more.
    pub(super) fn on_late_result(&mut self, done: TaskResult) {
        self.record_attempt(&done);
        self.trace_result(&done);
        match done {
            TaskResult::Fetched { task: errand, permit: pass, result: Ok(draft) } => {
                self.on_document_fetched(errand, pass, draft);
            }
            TaskResult::Fetched { task: errand, permit: pass, result: Err(failure) } => {
                let at = self.env.now();
                if let Some(failed) = self.defer_for_known_good(FailedFetch {
                    task: errand,
                    permit: pass,
                    failure,
                    failed_at: at,
                }) {
                    self.on_late_failure(failed);
                }
            }
            TaskResult::KnownGoodFetched(served) => {
                for failed in self.on_known_good_result(served) {
                    self.on_late_failure(failed);
                }
            }
            TaskResult::Committed { items, retry_at, stats: weight, duration: took, result } => {
                self.downloads.on_committed(&items, retry_at);
                match result {
                    Ok(tally) => {
                        self.record_batch(weight, took);
                        self.update_counts(tally);
                    }
                    Err(failure) => error!(cause = %failure.cause, "not stored: {failure}"),
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

    fn on_late_failure(&mut self, failed: FailedFetch) {
        if let FailureOrigin::Session(failure) = self.attribute_failure(failed) {
            warn!(cause = %failure.cause, "recorded error while leaving: {failure}");
        }
    }
}
