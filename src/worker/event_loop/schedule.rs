//! Starts the tasks that the state allows.

use cynosure_engine::{Event, Timestamp};

use super::EventLoop;
use super::work::ProbeState;
use crate::env::Env;
use crate::source::Source;
use crate::worker::breakers::CallDecision;
use crate::worker::downloads::IdleReason;
use crate::worker::tasks;

impl<S: Source + 'static, E: Env> EventLoop<S, E> {
    /// Starts the tasks that the state allows.
    pub(super) async fn schedule(&mut self) {
        self.check_breakers().await;
        let now = self.deps.env.now();
        if self.can_fetch() && self.machine.active_throttle(now).is_none() {
            self.schedule_downloads(now).await;
        }
        self.commit_if_due(now);
    }

    fn commit_if_due(&mut self, now: Timestamp) {
        // The times in the batch are of the current clock already, and shifting the ledger would
        // shift them again.
        if self.clock.is_ledger_behind() {
            return;
        }
        if let Some(batch) = self.work.downloads.take_due_batch(now) {
            self.work.start_commit(&self.deps.store, batch, now);
        }
    }

    async fn schedule_downloads(&mut self, now: Timestamp) {
        match self.work.probe {
            ProbeState::Needed => {
                self.work.probe = ProbeState::InFlight;
                self.work.last_request_at = now;
                self.work.tasks.push(tasks::probe_source(&self.deps.source, &self.deps.breakers));
                return;
            }
            ProbeState::InFlight => return,
            ProbeState::NotNeeded => {}
        }
        if let Some(request) = self.work.downloads.take_refill_request(now) {
            self.work.tasks.push(tasks::load_due_items(&self.deps.store, request, now));
        }
        // Committed first, since nothing is fetched while a full batch waits.
        self.commit_if_due(now);
        self.start_fetches().await;
        if self.is_poll_due(now) {
            self.handle_event(Event::OnlyRetriesLeft).await;
        }
        match self.work.downloads.idle_reason() {
            // Changes that the poll finds belong to the same session.
            Some(IdleReason::AllSettled) if self.work.is_polling => {}
            Some(IdleReason::AllSettled) if self.work.needs_final_poll => {
                self.handle_event(Event::PollRequested).await;
            }
            Some(IdleReason::AllSettled) if !self.work.is_finishing => {
                self.work.is_finishing = true;
                if let Some(session) = &self.machine.session {
                    self.work.tasks.push(tasks::finish_session(&self.deps.store, &session.id, now));
                }
            }
            Some(IdleReason::AwaitingRetry(until)) => {
                self.handle_event(Event::IdleUntil { until }).await;
            }
            Some(IdleReason::AllSettled) | None => {}
        }
    }

    /// Returns true if only retries keep the session open, and a poll for changes is due meanwhile.
    fn is_poll_due(&self, now: Timestamp) -> bool {
        !self.work.is_polling
            && self.work.downloads.has_only_retries()
            && self.machine.next_poll_at(&self.policy.machine_config, now) <= now
    }

    async fn start_fetches(&mut self) {
        while self.work.downloads.has_next_task(self.policy.concurrency) {
            let permit = match self.deps.breakers.try_acquire() {
                CallDecision::Admitted(permit) => permit,
                // The end of the probe wakes the loop.
                CallDecision::ProbeInFlight => return,
                CallDecision::Rejected(breaker) => return self.wait_for_breaker(breaker).await,
            };
            let now = self.deps.env.now();
            let Some(task) = self.work.downloads.take_task(self.policy.concurrency, now) else {
                return;
            };
            self.work.tasks.push(tasks::fetch_document(
                &self.deps.source,
                &self.deps.store,
                permit,
                task,
            ));
        }
    }
}
