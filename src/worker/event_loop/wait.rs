//! Waits for the next task result, deadline or request to stop.

use std::time::Duration;

use cynosure_engine::Timestamp;
use futures_util::StreamExt;

use super::work::ProbeState;
use super::{EventLoop, Wakeup, wait_for_stop};
use crate::env::Env;
use crate::source::Source;

impl<S: Source + 'static, E: Env> EventLoop<S, E> {
    /// Waits for a task result, a deadline, or the request to stop.
    pub(super) async fn wait_for_wakeup(&mut self) -> Wakeup {
        let wakeup_at = self.clock.reading_at(self.next_wakeup_at());
        self.deps
            .heartbeat
            .beat_within(wakeup_at.wall.since(self.deps.env.now()), self.machine.status().name());
        let wakeup = tokio::select! {
            biased;
            () = wait_for_stop(&mut self.stop) => Wakeup::StopRequested,
            Some(result) = self.work.commits.next(), if !self.work.commits.is_empty() => {
                Wakeup::TaskDone(Box::new(result))
            }
            Some(result) = self.work.tasks.next(), if !self.work.tasks.is_empty() => {
                Wakeup::TaskDone(Box::new(result))
            }
            Ok(()) = self.breaker_changes.changed() => Wakeup::Tick,
            () = self.deps.env.sleep_until(wakeup_at) => Wakeup::Tick,
        };
        // The work until the next wait is short, however long this wait might have been.
        self.deps.heartbeat.beat_within(Duration::ZERO, self.machine.status().name());
        wakeup
    }

    fn next_wakeup_at(&self) -> Timestamp {
        let fetch_at = if self.can_fetch() {
            self.machine.active_throttle(self.deps.env.now()).or_else(|| {
                // Due items are not loaded before the probe has succeeded.
                self.work
                    .downloads
                    .next_refill_at()
                    .filter(|_| self.work.probe == ProbeState::NotNeeded)
            })
        } else {
            None
        };
        let poll_at = (self.can_fetch()
            && !self.work.is_polling
            && self.work.downloads.has_only_retries())
        .then(|| self.machine.next_poll_at(&self.policy.machine_config, self.deps.env.now()));
        let times = [
            self.publication.due_at(),
            fetch_at,
            self.work.downloads.batch_due_at(),
            self.next_breaker_check(),
            poll_at,
        ];
        times
            .into_iter()
            .flatten()
            .fold(self.machine.deadline(&self.policy.machine_config), Timestamp::min)
    }
}
