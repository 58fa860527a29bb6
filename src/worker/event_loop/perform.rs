//! Performs the effects of the machine.

use cynosure_engine::{Effect, State, SyncScope, Timestamp};
use tracing::{debug, error, info, warn};

use super::work::ProbeState;
use super::{EventLoop, LoopExit, RunMode};
use crate::env::Env;
use crate::ledger::SessionCounts;
use crate::source::Source;
use crate::worker::store::ListingNeeds;
use crate::worker::tasks;

impl<S: Source + 'static, E: Env> EventLoop<S, E> {
    pub(super) fn perform(&mut self, effect: Effect) {
        let now = self.deps.env.now();
        match effect {
            Effect::Poll => {
                self.work.is_polling = true;
                self.work.last_request_at = self.blocked_until(now);
                self.work.tasks.push(tasks::poll_changes(
                    &self.deps.source,
                    &self.deps.store,
                    &self.deps.breakers,
                    self.clock.reading_at(self.work.last_request_at),
                ));
            }
            Effect::OpenSession { session, sync_scope } => {
                // A reconcile keeps the counts of the last session until it finds something.
                if sync_scope != SyncScope::Reconcile {
                    self.progress.counts = SessionCounts::default();
                }
                info!(%session, "started execution session");
            }
            Effect::RestartListing => info!("listing everything again"),
            Effect::ContinueListing => self.start_listing(),
            // Fetches are started for as long as the state allows them. The throughput before a
            // wait says nothing about the throughput after it.
            Effect::Download => {
                self.progress.reset_throughput(now);
                self.work.downloads.request_refill();
            }
            Effect::RequireProbes => self.deps.breakers.require_probes(),
            Effect::Probe => {
                self.work.downloads.reset_escalation();
                self.work.probe = ProbeState::Needed;
            }
            // The next requests are delayed by their own tasks, or by the loop.
            Effect::Throttle { until } => {
                info!(%until, "delaying requests, as the server requires");
            }
            Effect::Pause => {
                self.work.downloads.cancel_queued(now);
                self.watch_credential();
            }
            Effect::RefreshCredential => {
                self.cancel_tasks();
                self.work.tasks.push(tasks::refresh_credential(&self.deps.source));
            }
            Effect::RestartPhase => {
                warn!("no progress: restarting the phase");
                self.cancel_tasks();
            }
            Effect::CloseSession => self.on_session_completed(),
            Effect::BecomeIdle => {
                debug!("no changes found");
                if self.policy.mode != RunMode::Continuous {
                    self.exit = Some(LoopExit::NothingToDo);
                }
            }
            Effect::Alert { message } => error!(alert = %message, "manual intervention required"),
            Effect::Restart { cause } => {
                info!(reason = cause.reason(), "scheduling restart");
                self.observers.on_restart();
                self.exit = Some(LoopExit::Restart(cause));
            }
        }
    }

    pub(super) fn start_listing(&mut self) {
        self.work.last_request_at = self.blocked_until(self.deps.env.now());
        let Some(session) = &self.machine.session else { return };
        self.work.tasks.push(tasks::list_page(
            &self.deps.source,
            &self.deps.store,
            &self.deps.breakers,
            session,
            ListingNeeds {
                should_relist: self.machine.listing.is_full_resync,
                should_list_changes: self.machine.listing.is_listing_changes,
            },
            self.clock.reading_at(self.work.last_request_at),
            &self.policy.listing_retry,
        ));
    }

    /// Returns the time before which no request may be sent.
    fn blocked_until(&self, now: Timestamp) -> Timestamp {
        self.machine.active_throttle(now).unwrap_or(now)
    }

    pub(super) fn cancel_tasks(&mut self) {
        self.work.cancel_tasks();
        self.watch_credential();
    }

    /// While the credential is rejected, checks at intervals if it was replaced.
    pub(super) fn watch_credential(&mut self) {
        if let State::AuthFailed { .. } = self.machine.state {
            self.work.tasks.push(tasks::watch_credential(&self.deps.source, &self.deps.env));
        }
    }
}
