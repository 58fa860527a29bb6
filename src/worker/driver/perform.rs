//! Carries out what the machine wants, and starts what its state allows.

use tracing::{debug, error, info, warn};

use super::{Driver, Exit, Mode, Proof};
use crate::engine::metrics::add_saturating;
use crate::engine::{Effect, Event, State, SyncScope, Timestamp};
use crate::ledger::Tally;
use crate::source::Source;
use crate::worker::breakers::Entry;
use crate::worker::downloads::Lull;
use crate::worker::group::Group;
use crate::worker::jobs;
use crate::worker::store::Wants;
use crate::worker::world::World;

impl<S: Source + 'static, W: World> Driver<S, W> {
    pub(super) fn perform(&mut self, effect: Effect) {
        let now = self.world.now();
        match effect {
            Effect::Poll => {
                self.is_looking = true;
                self.asked_at = self.held_until(now);
                self.jobs.push(jobs::look(
                    &self.source,
                    &self.shared,
                    &self.circuits,
                    self.reckoned(self.asked_at),
                ));
            }
            Effect::OpenSession { session, sync_scope: extent } => {
                // What lists everything once more leaves the account as it is until it finds something.
                if extent != SyncScope::Reconcile {
                    self.tally = Tally::default();
                }
                info!(%session, "started execution session");
            }
            Effect::RestartListing => info!("listing everything again"),
            Effect::ContinueListing => self.collect(),
            // What may be fetched is fetched as long as the state allows it; the rate of
            // what came before a wait says nothing about what comes after.
            Effect::Download => {
                self.rate.restart(self.tally.settled(), now);
                self.downloads.ask_again();
            }
            Effect::Probe => {
                self.downloads.half_open();
                self.proof = Proof::Owed;
            }
            // What is asked for next is held back by its own job, or by the loop.
            Effect::Throttle { until } => info!(%until, "holding requests, as the server asked"),
            Effect::Pause => {
                self.downloads.drop_queue(now);
                self.watch_credential();
            }
            Effect::RefreshCredential => {
                self.drop_jobs();
                self.jobs.push(jobs::renew(&self.source));
            }
            Effect::RestartPhase => {
                warn!("no progress: beginning the stage anew");
                self.drop_jobs();
            }
            Effect::CloseSession => self.log_completed(),
            Effect::BecomeIdle => {
                debug!("nothing new");
                if self.mode != Mode::Keep {
                    self.exit = Some(Exit::NothingNew);
                }
            }
            Effect::Alert { message } => error!("a person is needed: {message}"),
            Effect::Restart { cause } => {
                info!(why = cause.reason(), "scheduling restart");
                self.meter.note(|figures| add_saturating(&mut figures.lifecycle.restarts, 1));
                self.exit = Some(Exit::Restart(cause));
            }
        }
    }

    pub(super) fn collect(&mut self) {
        self.asked_at = self.held_until(self.world.now());
        let Some(session) = &self.machine.session else { return };
        self.jobs.push(jobs::collect(
            &self.source,
            &self.shared,
            &self.circuits,
            session,
            Wants { relist: self.machine.is_full_resync, news: self.machine.is_listing_changes },
            self.reckoned(self.asked_at),
            &self.collect,
        ));
    }

    /// Before when nothing may be sent.
    fn held_until(&self, now: Timestamp) -> Timestamp {
        self.machine.active_throttle(now).unwrap_or(now)
    }

    pub(super) fn commit(&mut self, group: Group, now: Timestamp) {
        let recheck = self.downloads.recheck();
        self.commits.push(jobs::commit(&self.shared, group, recheck, now));
    }

    pub(super) fn drop_jobs(&mut self) {
        self.jobs.clear();
        self.downloads.drop_in_flight();
        self.doubt.clear();
        (self.finishing, self.is_looking) = (false, false);
        if self.proof == Proof::Asked {
            self.proof = Proof::Owed;
        }
        self.watch_credential();
    }

    /// While the credential is refused, looks now and then whether there is another.
    pub(super) fn watch_credential(&mut self) {
        if let State::AuthFailed { .. } = self.machine.state {
            self.jobs.push(jobs::watch_credential(&self.source, &self.world));
        }
    }

    /// Starts what the state allows.
    pub(super) async fn launch(&mut self) {
        self.heed_circuits().await;
        let now = self.world.now();
        if self.may_fetch() && self.machine.active_throttle(now).is_none() {
            self.launch_downloads(now).await;
        }
        self.commit_if_due(now);
    }

    fn commit_if_due(&mut self, now: Timestamp) {
        // Its times are right already, and must not be moved once more with the ledger.
        if self.is_ledger_behind() {
            return;
        }
        if let Some(group) = self.downloads.take_group(now) {
            self.commit(group, now);
        }
    }

    pub(super) async fn launch_downloads(&mut self, now: Timestamp) {
        match self.proof {
            Proof::Owed => {
                self.proof = Proof::Asked;
                self.asked_at = now;
                self.jobs.push(jobs::prove(&self.source, &self.circuits));
                return;
            }
            Proof::Asked => return,
            Proof::NotOwed => {}
        }
        if let Some(wish) = self.downloads.wants_more(now) {
            self.jobs.push(jobs::refill(&self.shared, wish, now));
        }
        // First, since while a full group waits, nothing is fetched.
        self.commit_if_due(now);
        self.launch_fetches().await;
        if self.is_look_due(now) {
            self.decide(Event::OnlyRetriesLeft).await;
        }
        match self.downloads.lull() {
            // What it finds belongs to the same session.
            Some(Lull::AllSettled) if self.is_looking => {}
            Some(Lull::AllSettled) if self.owes_look => self.decide(Event::PollRequested).await,
            Some(Lull::AllSettled) if !self.finishing => {
                self.finishing = true;
                if let Some(session) = &self.machine.session {
                    self.jobs.push(jobs::finish(&self.shared, &session.id, now));
                }
            }
            Some(Lull::Resting(until)) => self.decide(Event::IdleUntil { until }).await,
            Some(Lull::AllSettled) | None => {}
        }
    }

    /// Whether only leftovers keep the session open, and it is time to look for news beside them.
    fn is_look_due(&self, now: Timestamp) -> bool {
        !self.is_looking
            && self.downloads.has_only_retries()
            && self.machine.next_poll_at(&self.rules, now) <= now
    }

    async fn launch_fetches(&mut self) {
        while self.downloads.may_take(self.concurrency) {
            let pass = match self.circuits.try_enter() {
                Entry::Go(pass) => pass,
                // Its end wakes us.
                Entry::Busy => return,
                Entry::Shut(shut) => return self.wait_for(shut).await,
            };
            let now = self.world.now();
            let Some(errand) = self.downloads.take(self.concurrency, now) else { return };
            self.jobs.push(jobs::fetch(&self.source, &self.shared, pass, errand));
        }
    }
}
