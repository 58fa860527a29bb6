//! Performs the effects of the machine, and starts the tasks that its state allows.

use tracing::{debug, error, info, warn};

use super::{EventLoop, LoopExit, ProbeState, RunMode};
use crate::engine::metrics::add_saturating;
use crate::engine::{Effect, Event, State, SyncScope, Timestamp};
use crate::ledger::SessionCounts;
use crate::source::Source;
use crate::worker::breakers::CallDecision;
use crate::worker::commit_batch::CommitBatch;
use crate::worker::downloads::IdleReason;
use crate::worker::env::Env;
use crate::worker::store::ListingNeeds;
use crate::worker::tasks;

impl<S: Source + 'static, E: Env> EventLoop<S, E> {
    pub(super) fn perform(&mut self, effect: Effect) {
        let now = self.env.now();
        match effect {
            Effect::Poll => {
                self.is_polling = true;
                self.last_request_at = self.blocked_until(now);
                self.tasks.push(tasks::poll_changes(
                    &self.source,
                    &self.store,
                    &self.breakers,
                    self.as_clock_reading(self.last_request_at),
                ));
            }
            Effect::OpenSession { session, sync_scope } => {
                // A reconcile keeps the counts of the last session until it finds something.
                if sync_scope != SyncScope::Reconcile {
                    self.counts = SessionCounts::default();
                }
                info!(%session, "started execution session");
            }
            Effect::RestartListing => info!("listing everything again"),
            Effect::ContinueListing => self.start_listing(),
            // Fetches are started for as long as the state allows them. The throughput before a
            // wait says nothing about the throughput after it.
            Effect::Download => {
                self.throughput.reset(self.counts.settled(), now);
                self.downloads.request_refill();
            }
            Effect::Probe => {
                self.downloads.enter_half_open();
                self.probe = ProbeState::Needed;
            }
            // The next requests are delayed by their own tasks, or by the loop.
            Effect::Throttle { until } => {
                info!(%until, "delaying requests, as the server requires");
            }
            Effect::Pause => {
                self.downloads.cancel_queued(now);
                self.watch_credential();
            }
            Effect::RefreshCredential => {
                self.cancel_tasks();
                self.tasks.push(tasks::refresh_credential(&self.source));
            }
            Effect::RestartPhase => {
                warn!("no progress: restarting the phase");
                self.cancel_tasks();
            }
            Effect::CloseSession => self.on_session_completed(),
            Effect::BecomeIdle => {
                debug!("no changes found");
                if self.mode != RunMode::Continuous {
                    self.exit = Some(LoopExit::NothingToDo);
                }
            }
            Effect::Alert { message } => error!(alert = %message, "manual intervention required"),
            Effect::Restart { cause } => {
                info!(reason = cause.reason(), "scheduling restart");
                self.metrics.update(|metrics| add_saturating(&mut metrics.lifecycle.restarts, 1));
                self.exit = Some(LoopExit::Restart(cause));
            }
        }
    }

    pub(super) fn start_listing(&mut self) {
        self.last_request_at = self.blocked_until(self.env.now());
        let Some(session) = &self.machine.session else { return };
        self.tasks.push(tasks::list_page(
            &self.source,
            &self.store,
            &self.breakers,
            session,
            ListingNeeds {
                should_relist: self.machine.is_full_resync,
                should_list_changes: self.machine.is_listing_changes,
            },
            self.as_clock_reading(self.last_request_at),
            &self.listing_retry,
        ));
    }

    /// Returns the time before which no request may be sent.
    fn blocked_until(&self, now: Timestamp) -> Timestamp {
        self.machine.active_throttle(now).unwrap_or(now)
    }

    pub(super) fn start_commit(&mut self, batch: CommitBatch, now: Timestamp) {
        let recheck = self.downloads.recheck_policy();
        self.commits.push(tasks::commit_batch(&self.store, batch, recheck, now));
    }

    pub(super) fn cancel_tasks(&mut self) {
        self.tasks.clear();
        self.downloads.drop_in_flight();
        self.known_good_check.clear();
        (self.is_finishing, self.is_polling) = (false, false);
        if self.probe == ProbeState::InFlight {
            self.probe = ProbeState::Needed;
        }
        self.watch_credential();
    }

    /// While the credential is rejected, checks at intervals if it was replaced.
    pub(super) fn watch_credential(&mut self) {
        if let State::AuthFailed { .. } = self.machine.state {
            self.tasks.push(tasks::watch_credential(&self.source, &self.env));
        }
    }

    /// Starts the tasks that the state allows.
    pub(super) async fn schedule(&mut self) {
        self.check_breakers().await;
        let now = self.env.now();
        if self.can_fetch() && self.machine.active_throttle(now).is_none() {
            self.schedule_downloads(now).await;
        }
        self.commit_if_due(now);
    }

    fn commit_if_due(&mut self, now: Timestamp) {
        // The times in the batch are of the current clock already, and shifting the ledger would
        // shift them again.
        if self.is_ledger_clock_behind() {
            return;
        }
        if let Some(batch) = self.downloads.take_due_batch(now) {
            self.start_commit(batch, now);
        }
    }

    pub(super) async fn schedule_downloads(&mut self, now: Timestamp) {
        match self.probe {
            ProbeState::Needed => {
                self.probe = ProbeState::InFlight;
                self.last_request_at = now;
                self.tasks.push(tasks::probe_source(&self.source, &self.breakers));
                return;
            }
            ProbeState::InFlight => return,
            ProbeState::NotNeeded => {}
        }
        if let Some(request) = self.downloads.take_refill_request(now) {
            self.tasks.push(tasks::load_due_items(&self.store, request, now));
        }
        // Committed first, since nothing is fetched while a full batch waits.
        self.commit_if_due(now);
        self.start_fetches().await;
        if self.is_poll_due(now) {
            self.handle_event(Event::OnlyRetriesLeft).await;
        }
        match self.downloads.idle_reason() {
            // Changes that the poll finds belong to the same session.
            Some(IdleReason::AllSettled) if self.is_polling => {}
            Some(IdleReason::AllSettled) if self.needs_final_poll => {
                self.handle_event(Event::PollRequested).await;
            }
            Some(IdleReason::AllSettled) if !self.is_finishing => {
                self.is_finishing = true;
                if let Some(session) = &self.machine.session {
                    self.tasks.push(tasks::finish_session(&self.store, &session.id, now));
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
        !self.is_polling
            && self.downloads.has_only_retries()
            && self.machine.next_poll_at(&self.machine_config, now) <= now
    }

    async fn start_fetches(&mut self) {
        while self.downloads.has_next_task(self.concurrency) {
            let permit = match self.breakers.try_acquire() {
                CallDecision::Admitted(permit) => permit,
                // The end of the probe wakes the loop.
                CallDecision::ProbeInFlight => return,
                CallDecision::Rejected(breaker) => return self.wait_for_breaker(breaker).await,
            };
            let now = self.env.now();
            let Some(task) = self.downloads.take_task(self.concurrency, now) else { return };
            self.tasks.push(tasks::fetch_document(&self.source, &self.store, permit, task));
        }
    }
}
