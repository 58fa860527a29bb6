//! Circuit breakers of this process: one per provider, and one each for the ledger and the archive.
//!
//! All sources of a process share them, on one thread. They are saved in `breakers.json` on every
//! change of state, and at intervals for their counts. Other processes may change them there, above
//! all a command of the user; this is noticed within seconds.

mod commands;
mod source_breakers;
mod sync;
mod synced;
#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tracing::{info, warn};

pub use self::commands::{CommandResult, apply_command};
pub use self::source_breakers::SourceBreakers;
pub(super) use self::source_breakers::{CallDecision, CallError, CallPermit, OpenBreaker};
pub use crate::state::{BreakerStates, BreakersFile};

use cynosure_engine::breaker::{
    Admission, Breaker, BreakerPermit, BreakerPolicy, BreakerState, BreakerTransition, CallSubject,
    HealthSignal, ManualCommand, Severity,
};
use cynosure_engine::{Failure, RequestScope, Timestamp};

use self::sync::{SyncJob, SyncKind, SyncResult};
use self::synced::SyncedBreaker;
use crate::env::Env;

/// Name of the ledger's breaker.
pub const LEDGER: &str = "ledger";

/// Name of the archive's breaker.
pub const ARCHIVE: &str = "archive";

/// Interval of checks for changes by other processes. A user who has just typed a command waits for
/// it, and reading a small file costs nothing.
const SYNC_INTERVAL: Duration = Duration::from_secs(5);

/// Interval of saving counts.
const COUNTS_SAVE_INTERVAL: Duration = Duration::from_secs(60);

/// Delay before a caller asks again while a probe is in flight.
const PROBE_RETRY_DELAY: Duration = Duration::from_secs(1);

/// All circuit breakers of a process.
pub struct Breakers {
    file: Arc<BreakersFile>,
    clock: Box<dyn Fn() -> Timestamp>,
    inner: RefCell<Inner>,
    /// Incremented when a waiting caller should check again.
    version: watch::Sender<u64>,
}

#[derive(Debug)]
struct Inner {
    policy: BreakerPolicy,
    breakers: BTreeMap<String, SyncedBreaker>,
    checked_at: Timestamp,
    saved_at: Timestamp,
    /// True while the file is being read or written.
    is_syncing: bool,
    /// Last failure of the file, kept so that it is logged only once.
    last_error: Option<Failure>,
}

impl Breakers {
    /// Opens the breakers as saved in their file, with a warning about the state of the file, if
    /// any.
    pub fn open(
        file: BreakersFile,
        policy: BreakerPolicy,
        clock: impl Fn() -> Timestamp + 'static,
    ) -> (Rc<Self>, Option<String>) {
        let now = clock();
        let (states, warning) = match file.read() {
            Ok(Ok(states)) => (states, None),
            Ok(Err(_)) => match file.update(|states| states.clone()) {
                Ok(found) => found,
                Err(failure) => (BreakerStates::new(), Some(failure.message)),
            },
            // The content is applied as soon as the file can be read.
            Err(failure) => (BreakerStates::new(), Some(failure.message)),
        };
        let restore = |(name, state): (String, _)| {
            let breaker = Breaker::restore(&name, policy, &state, now);
            (name, SyncedBreaker::from_saved(breaker))
        };
        let breakers = states.into_iter().map(restore).collect();
        let inner = Inner {
            policy,
            breakers,
            checked_at: now,
            saved_at: now,
            is_syncing: false,
            last_error: None,
        };
        let breakers = Self {
            file: Arc::new(file),
            clock: Box::new(clock),
            inner: RefCell::new(inner),
            version: watch::Sender::new(0),
        };
        (Rc::new(breakers), warning)
    }

    /// Replaces the policy of all breakers.
    pub fn set_policy(&self, policy: BreakerPolicy) {
        let mut inner = self.inner.borrow_mut();
        inner.policy = policy;
        inner.breakers.values_mut().for_each(|synced| synced.breaker.set_policy(policy));
    }

    /// Requests permission for a call whose result is recorded by name.
    ///
    /// # Errors
    /// The time before which asking again is of no use.
    pub fn try_acquire(&self, name: &str) -> Result<(), Timestamp> {
        let now = (self.clock)();
        match self.admit(name) {
            Admission::Admitted(permit) => {
                self.update(name, |synced, _| (synced.named_permit.replace(permit), None));
                Ok(())
            }
            Admission::ProbeInFlight => Err(now.after(PROBE_RETRY_DELAY)),
            Admission::Rejected { until } => Err(until.unwrap_or_else(|| now.after(SYNC_INTERVAL))),
        }
    }

    /// Records the success of a call permitted by name.
    pub fn record_success(&self, name: &str) {
        self.record_named(name, None);
    }

    /// Records a success without a permit, which clears the failures.
    pub fn clear_and_record_success(&self, name: &str) {
        let permit = self.update(name, |synced, now| synced.breaker.admit_unconditionally(now));
        self.update(name, |synced, now| ((), synced.breaker.clear_and_record_success(permit, now)));
        self.notify_half_open(name);
    }

    /// Records the failure of a call permitted by name. Failures that do not concern the callee are
    /// not counted.
    pub fn record_failure(&self, name: &str, failure: &Failure) {
        self.record_named(name, Some(failure));
    }

    /// Records that a call permitted by name was cancelled, or says nothing about the callee.
    pub fn record_abandoned(&self, name: &str) {
        if let Some(permit) = self.update(name, |synced, _| (synced.named_permit.take(), None)) {
            self.record_cancelled(name, permit);
        }
    }

    /// Applies a manual command.
    pub fn apply_command(&self, name: &str, command: ManualCommand) {
        // An unused breaker has nothing to change.
        if self.inner.borrow().breakers.contains_key(name) {
            self.update(name, |synced, now| ((), synced.breaker.apply_command(command, now)));
        }
    }

    #[must_use]
    pub fn state(&self, name: &str) -> BreakerState {
        let inner = self.inner.borrow();
        inner.breakers.get(name).map_or(BreakerState::Closed, |synced| synced.breaker.state())
    }

    /// Returns true from the time when the breaker opens until it closes.
    fn is_in_open_period(&self, name: &str) -> bool {
        let inner = self.inner.borrow();
        inner.breakers.get(name).is_some_and(|synced| synced.breaker.is_in_open_period())
    }

    /// Returns the time until which the breaker rejects calls, if it does; `Some(None)` until it is
    /// closed manually.
    #[must_use]
    pub fn open_until(&self, name: &str) -> Option<Option<Timestamp>> {
        let inner = self.inner.borrow();
        let breaker = &inner.breakers.get(name)?.breaker;
        match breaker.state() {
            // This runs before every step of the work, so skip even the clock.
            BreakerState::Closed | BreakerState::HalfOpen => None,
            BreakerState::Open => breaker.rejecting_until((self.clock)()),
        }
    }

    /// Subscribes to changes of state, and to permission for the next probe.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.version.subscribe()
    }

    /// Saves changes and applies those of other processes, if that is due.
    pub async fn sync<E: Env>(&self, env: &E) {
        let job = self.next_job((self.clock)());
        self.run_job(job, env).await;
    }

    /// Saves all unsaved changes.
    pub async fn save<E: Env>(&self, env: &E) {
        let job = self.inner.borrow_mut().pending_write(&self.file);
        self.run_job(job, env).await;
    }
}

impl Breakers {
    fn admit(&self, name: &str) -> Admission {
        self.update(name, |synced, now| synced.breaker.admit(now))
    }

    /// Records the result of a call by its permit.
    fn record_result(
        &self,
        name: &str,
        permit: BreakerPermit,
        subject: &CallSubject,
        scope: RequestScope,
        failure: Option<&Failure>,
    ) {
        let signal = failure.map_or(HealthSignal::Success, |failure| {
            HealthSignal::for_provider(failure.cause, scope)
        });
        self.record_signal(name, permit, subject, signal, failure);
    }

    /// Returns true if a failure of the call would open the breaker.
    fn would_open(
        &self,
        name: &str,
        permit: BreakerPermit,
        subject: &CallSubject,
        scope: RequestScope,
        failure: &Failure,
    ) -> bool {
        HealthSignal::for_provider(failure.cause, scope) == HealthSignal::Failure
            && self.update(name, |synced, now| {
                (synced.breaker.would_open(permit, subject, failure, now), None)
            })
    }

    /// Records the result of a call permitted by name, or made without a permit.
    fn record_named(&self, name: &str, failure: Option<&Failure>) {
        let permit = self.update(name, |synced, now| match synced.named_permit.take() {
            Some(permit) => (permit, None),
            None => synced.breaker.admit_unconditionally(now),
        });
        let signal = match (failure, name) {
            (None, _) => HealthSignal::Success,
            (Some(failure), LEDGER | ARCHIVE) => HealthSignal::for_storage(failure.cause),
            (Some(failure), _) => HealthSignal::for_provider(failure.cause, RequestScope::Session),
        };
        self.record_signal(name, permit, &CallSubject::Service, signal, failure);
    }

    fn record_signal(
        &self,
        name: &str,
        permit: BreakerPermit,
        subject: &CallSubject,
        signal: HealthSignal,
        failure: Option<&Failure>,
    ) {
        self.update(name, |SyncedBreaker { breaker, .. }, now| {
            let change = match (signal, failure) {
                (HealthSignal::Failure, Some(failure)) => {
                    breaker.record_failure(permit, subject, failure, now)
                }
                (HealthSignal::Success, _) | (HealthSignal::Failure, None) => {
                    breaker.record_success(permit, now)
                }
                (HealthSignal::Neutral, _) => {
                    breaker.record_neutral(permit);
                    None
                }
            };
            ((), change)
        });
        self.notify_half_open(name);
    }

    fn record_neutral(&self, name: &str, permit: BreakerPermit) {
        self.update(name, |synced, _| {
            synced.breaker.record_neutral(permit);
            ((), None)
        });
        self.notify_half_open(name);
    }

    fn record_cancelled(&self, name: &str, permit: BreakerPermit) {
        self.update(name, |synced, _| (synced.breaker.record_cancelled(permit), None));
        self.notify_half_open(name);
    }

    /// Makes a closed breaker half-open.
    fn require_probes(&self, name: &str) {
        self.update(name, |synced, now| ((), synced.breaker.require_probes(now)));
    }

    fn notify_half_open(&self, name: &str) {
        if self.state(name) == BreakerState::HalfOpen {
            self.version.send_modify(|version| *version += 1);
        }
    }

    /// Applies an event to a breaker and publishes its change of state.
    fn update<T>(
        &self,
        name: &str,
        apply: impl FnOnce(&mut SyncedBreaker, Timestamp) -> (T, Option<BreakerTransition>),
    ) -> T {
        let now = (self.clock)();
        let (result, change) = {
            let mut inner = self.inner.borrow_mut();
            let policy = inner.policy;
            if !inner.breakers.contains_key(name) {
                let breaker = Breaker::new(name, policy, now);
                inner.breakers.insert(name.to_owned(), SyncedBreaker::new(breaker));
            }
            match inner.breakers.get_mut(name) {
                Some(synced) => apply(synced, now),
                None => apply(&mut SyncedBreaker::new(Breaker::new(name, policy, now)), now),
            }
        };
        if let Some(change) = change {
            self.publish_change(&change);
        }
        result
    }

    /// Logs a change and wakes the subscribers.
    fn publish_change(&self, change: &BreakerTransition) {
        let BreakerTransition { breaker: name, generation: _, from, to, severity, at: _, reason } =
            change;
        let (from, to, level) = (from.name(), to.name(), severity.name());
        match severity {
            Severity::Critical | Severity::Warning => {
                warn!(name, from, to, severity = level, reason, "circuit breaker changed");
            }
            Severity::Info => {
                info!(name, from, to, severity = level, reason, "circuit breaker changed");
            }
        }
        self.version.send_modify(|version| *version += 1);
    }
}

/// Synchronisation with the file.
impl Breakers {
    /// Returns the time of the next check of the file.
    fn next_sync_at(&self) -> Timestamp {
        let (now, checked_at) = ((self.clock)(), self.inner.borrow().checked_at);
        // A clock that was set back must not delay the check.
        checked_at.min(now).after(SYNC_INTERVAL)
    }

    fn next_job(&self, now: Timestamp) -> Option<SyncJob> {
        let mut inner = self.inner.borrow_mut();
        let has_elapsed = |at: Timestamp, interval| now < at || now.since(at) >= interval;
        let is_check_due = has_elapsed(inner.checked_at, SYNC_INTERVAL);
        let has_changed = inner.breakers.values().any(SyncedBreaker::has_changed);
        let is_save_due = has_elapsed(inner.saved_at, COUNTS_SAVE_INTERVAL);
        // While the file cannot be written, retry at every check.
        if (has_changed && (is_check_due || inner.last_error.is_none()))
            || (is_check_due && is_save_due)
        {
            inner.checked_at = now;
            if let Some(job) = inner.pending_write(&self.file) {
                inner.saved_at = now;
                return Some(job);
            }
        }
        if !is_check_due {
            return None;
        }
        // Also while another source is reading it: the caller must not ask again immediately.
        inner.checked_at = now;
        if inner.is_syncing {
            return None;
        }
        inner.breakers.values_mut().for_each(SyncedBreaker::mark_nothing_sent);
        Some(SyncJob { file: Arc::clone(&self.file), kind: SyncKind::Read })
    }

    async fn run_job<E: Env>(&self, job: Option<SyncJob>, env: &E) {
        let Some(job) = job else { return };
        self.inner.borrow_mut().is_syncing = true;
        let guard = SyncGuard(self);
        let result = env.spawn_blocking(move || job.run()).await;
        drop(guard);
        match result {
            Ok(result) => self.apply_sync_result(result),
            Err(failure) => {
                let mut inner = self.inner.borrow_mut();
                if inner.last_error.as_ref() != Some(&failure) {
                    let cause = failure.cause;
                    warn!(%cause, error = %failure, "cannot sync the breakers file");
                    inner.last_error = Some(failure);
                }
            }
        }
    }

    fn apply_sync_result(&self, SyncResult { states, accepted, warning }: SyncResult) {
        if let Some(warning) = warning {
            warn!(reason = %warning, "replaced the unreadable breakers file");
        }
        let now = (self.clock)();
        let mut changes = Vec::new();
        {
            let mut inner = self.inner.borrow_mut();
            inner.last_error = None;
            let policy = inner.policy;
            for (name, state) in states {
                let peer = || Breaker::restore(&name, policy, &state, now);
                match inner.breakers.get_mut(&name) {
                    None => {
                        let synced = SyncedBreaker::from_saved(peer());
                        inner.breakers.insert(name, synced);
                    }
                    Some(synced) if accepted.contains(&name) => synced.on_saved(&state),
                    Some(synced) if synced.is_behind(&state) => {
                        changes.extend(synced.merge_from_peer(peer()));
                    }
                    Some(_) => {}
                }
            }
        }
        for change in &changes {
            self.publish_change(change);
        }
    }
}

/// Clears `is_syncing` at the end of a job, also if it is cancelled.
struct SyncGuard<'a>(&'a Breakers);

impl Drop for SyncGuard<'_> {
    fn drop(&mut self) {
        self.0.inner.borrow_mut().is_syncing = false;
    }
}

impl Inner {
    /// Returns a job that writes all unsaved changes, if there are any and no other job is running.
    fn pending_write(&mut self, file: &Arc<BreakersFile>) -> Option<SyncJob> {
        if self.is_syncing
            || !self.breakers.values().any(|synced| synced.has_changed() || synced.has_new_counts())
        {
            return None;
        }
        let local_states = self
            .breakers
            .iter_mut()
            .map(|(name, synced)| (name.clone(), synced.take_local_state()));
        Some(SyncJob { file: Arc::clone(file), kind: SyncKind::Write(local_states.collect()) })
    }
}

impl fmt::Debug for Breakers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Breakers").field("inner", &self.inner).finish_non_exhaustive()
    }
}
