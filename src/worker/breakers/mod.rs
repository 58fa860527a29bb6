//! Circuit breakers of this process: one per provider, and one each for the ledger and the archive.
//!
//! All sources of a process share them, on one thread. They are saved in a [`BreakerStore`], the file
//! `breakers.json` on one machine, on every change of state, and at intervals for their counts. Other processes may change them there, above
//! all a command of the user; this is noticed within seconds.

mod breaker_store;
mod commands;
mod exchange;
#[cfg(test)]
mod proptests;
mod source_breakers;
#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, watch};
use tracing::{info, warn};

pub use self::breaker_store::BreakerStore;
pub use self::commands::{CommandResult, apply_command};
pub use self::source_breakers::SourceBreakers;
pub(super) use self::source_breakers::{CallDecision, CallError, CallPermit, OpenBreaker};
pub use crate::state::{BreakerStates, BreakersFile};

use cynosure_engine::breaker::{
    Admission, BreakerPermit, BreakerPolicy, BreakerState, BreakerTransition, CallSubject,
    HealthSignal, ManualCommand, Severity,
};
use cynosure_engine::{Failure, RequestScope, Timestamp};

use self::exchange::{SharedBreaker, exchange};
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
    store: Arc<dyn BreakerStore>,
    clock: Box<dyn Fn() -> Timestamp>,
    inner: RefCell<Inner>,
    /// Held during an exchange with the store.
    exchange_lock: Mutex<()>,
    /// Incremented when a waiting caller should check again.
    version: watch::Sender<u64>,
}

#[derive(Debug)]
struct Inner {
    policy: BreakerPolicy,
    breakers: BTreeMap<String, SharedBreaker>,
    checked_at: Timestamp,
    saved_at: Timestamp,
    /// Last failure of the store, kept so that it is logged only once.
    last_error: Option<Failure>,
}

impl Breakers {
    /// Opens the breakers as saved in their store, with a warning about the state of the store, if
    /// any.
    pub fn open(
        store: impl BreakerStore + 'static,
        policy: BreakerPolicy,
        clock: impl Fn() -> Timestamp + 'static,
    ) -> (Rc<Self>, Option<String>) {
        let now = clock();
        let (states, warning) = match store.read() {
            Ok(Ok(states)) => (states, None),
            Ok(Err(_)) => match store.update(&mut |_| {}) {
                Ok(note) => (BreakerStates::new(), note),
                Err(failure) => (BreakerStates::new(), Some(failure.message)),
            },
            // The content is applied as soon as the store can be read.
            Err(failure) => (BreakerStates::new(), Some(failure.message)),
        };
        let restore = |(name, state): (String, _)| {
            let shared = SharedBreaker::from_saved(&name, policy, state, now);
            (name, shared)
        };
        let breakers = states.into_iter().map(restore).collect();
        let inner = Inner { policy, breakers, checked_at: now, saved_at: now, last_error: None };
        let breakers = Self {
            store: Arc::new(store),
            clock: Box::new(clock),
            inner: RefCell::new(inner),
            exchange_lock: Mutex::new(()),
            version: watch::Sender::new(0),
        };
        (Rc::new(breakers), warning)
    }

    /// Replaces the policy of all breakers.
    pub fn set_policy(&self, policy: BreakerPolicy) {
        let mut inner = self.inner.borrow_mut();
        inner.policy = policy;
        inner.breakers.values_mut().for_each(|shared| shared.breaker.set_policy(policy));
    }

    /// Requests permission for a call whose result is recorded by name.
    ///
    /// # Errors
    /// The time before which asking again is of no use.
    pub fn try_acquire(&self, name: &str) -> Result<(), Timestamp> {
        let now = (self.clock)();
        match self.admit(name) {
            Admission::Admitted(permit) => {
                self.update(name, |shared, _| (shared.named_permit.replace(permit), None));
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
        let permit = self.update(name, |shared, now| shared.breaker.admit_unconditionally(now));
        self.update(name, |shared, now| ((), shared.breaker.clear_and_record_success(permit, now)));
        self.notify_half_open(name);
    }

    /// Records the failure of a call permitted by name. Failures that do not concern the callee are
    /// not counted.
    pub fn record_failure(&self, name: &str, failure: &Failure) {
        self.record_named(name, Some(failure));
    }

    /// Records that a call permitted by name was cancelled, or says nothing about the callee.
    pub fn record_abandoned(&self, name: &str) {
        if let Some(permit) = self.update(name, |shared, _| (shared.named_permit.take(), None)) {
            self.record_cancelled(name, permit);
        }
    }

    /// Ends the wait of a breaker, because the user asks for work now.
    pub fn half_open_now(&self, name: &str) {
        // An unused breaker has nothing to change.
        if self.inner.borrow().breakers.contains_key(name) {
            let command = ManualCommand::TryNow;
            self.update(name, |shared, now| ((), shared.breaker.apply_command(command, now)));
        }
    }

    #[must_use]
    pub fn state(&self, name: &str) -> BreakerState {
        let inner = self.inner.borrow();
        inner.breakers.get(name).map_or(BreakerState::Closed, |shared| shared.breaker.state())
    }

    /// Returns true from the time when the breaker opens until it closes.
    fn is_in_open_period(&self, name: &str) -> bool {
        let inner = self.inner.borrow();
        inner.breakers.get(name).is_some_and(|shared| shared.breaker.is_in_open_period())
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
        let now = (self.clock)();
        if !self.inner.borrow_mut().begin_check(now) {
            return;
        }
        // Another source of this process may be in the middle of it.
        let Ok(_lock) = self.exchange_lock.try_lock() else { return };
        let sent = self.inner.borrow_mut().breakers_to_send(now);
        self.run_exchange(sent, env).await;
    }

    /// Saves all unsaved changes.
    pub async fn save<E: Env>(&self, env: &E) {
        let _lock = self.exchange_lock.lock().await;
        let sent = self.inner.borrow().unsaved_breakers();
        if !sent.is_empty() {
            self.run_exchange(sent, env).await;
        }
    }
}

impl Breakers {
    fn admit(&self, name: &str) -> Admission {
        self.update(name, |shared, now| shared.breaker.admit(now))
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
            && self.update(name, |shared, now| {
                (shared.breaker.would_open(permit, subject, failure, now), None)
            })
    }

    /// Records the result of a call permitted by name, or made without a permit.
    fn record_named(&self, name: &str, failure: Option<&Failure>) {
        let permit = self.update(name, |shared, now| match shared.named_permit.take() {
            Some(permit) => (permit, None),
            None => shared.breaker.admit_unconditionally(now),
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
        self.update(name, |SharedBreaker { breaker, .. }, now| {
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
        self.update(name, |shared, _| {
            shared.breaker.record_neutral(permit);
            ((), None)
        });
        self.notify_half_open(name);
    }

    fn record_cancelled(&self, name: &str, permit: BreakerPermit) {
        self.update(name, |shared, _| (shared.breaker.record_cancelled(permit), None));
        self.notify_half_open(name);
    }

    /// Makes a closed breaker half-open.
    fn require_probes(&self, name: &str) {
        self.update(name, |shared, now| ((), shared.breaker.require_probes(now)));
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
        apply: impl FnOnce(&mut SharedBreaker, Timestamp) -> (T, Option<BreakerTransition>),
    ) -> T {
        let now = (self.clock)();
        let (result, change) = {
            let mut inner = self.inner.borrow_mut();
            let policy = inner.policy;
            let new = || SharedBreaker::new(name, policy, now);
            apply(inner.breakers.entry(name.to_owned()).or_insert_with(new), now)
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

/// Exchange with the store.
impl Breakers {
    /// Returns the time of the next check of the store.
    fn next_sync_at(&self) -> Timestamp {
        let (now, checked_at) = ((self.clock)(), self.inner.borrow().checked_at);
        // A clock that was set back must not delay the check.
        checked_at.min(now).after(SYNC_INTERVAL)
    }

    /// Merges `sent` into the store, or only reads the store if it is empty, and adopts the states
    /// that then hold. The caller holds `exchange_lock`.
    async fn run_exchange<E: Env>(&self, sent: BTreeMap<String, SharedBreaker>, env: &E) {
        let store = Arc::clone(&self.store);
        let (result, sent) = env.spawn_blocking(move || (exchange(&*store, &sent), sent)).await;
        match result {
            Ok((states, warning)) => {
                if let Some(warning) = warning {
                    warn!(reason = %warning, "replaced the unreadable breakers file");
                }
                self.adopt(&sent, states);
            }
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

    fn adopt(&self, sent: &BTreeMap<String, SharedBreaker>, states: BreakerStates) {
        let now = (self.clock)();
        let mut changes = Vec::new();
        {
            let mut inner = self.inner.borrow_mut();
            inner.last_error = None;
            let policy = inner.policy;
            for (name, saved) in states {
                match inner.breakers.get_mut(&name) {
                    Some(shared) => changes.extend(shared.adopt(sent.get(&name), saved, now)),
                    None => {
                        let shared = SharedBreaker::from_saved(&name, policy, saved, now);
                        inner.breakers.insert(name, shared);
                    }
                }
            }
        }
        for change in &changes {
            self.publish_change(change);
        }
    }
}

impl Inner {
    /// Returns true if an exchange is due, which then counts as made, so that the caller does not
    /// ask again immediately.
    fn begin_check(&mut self, now: Timestamp) -> bool {
        // While the store cannot be written, retry at every check.
        let is_due = has_elapsed(self.checked_at, SYNC_INTERVAL, now)
            || (self.last_error.is_none() && self.has_changed());
        if is_due {
            self.checked_at = now;
        }
        is_due
    }

    /// Returns the breakers to merge into the store; none while only counts are new and not due.
    fn breakers_to_send(&mut self, now: Timestamp) -> BTreeMap<String, SharedBreaker> {
        if !self.has_changed() && !has_elapsed(self.saved_at, COUNTS_SAVE_INTERVAL, now) {
            return BTreeMap::new();
        }
        let sent = self.unsaved_breakers();
        if !sent.is_empty() {
            self.saved_at = now;
        }
        sent
    }

    /// Returns all breakers if the store does not include some of their changes or counts.
    fn unsaved_breakers(&self) -> BTreeMap<String, SharedBreaker> {
        let has_new_counts = self.breakers.values().any(SharedBreaker::has_new_counts);
        if self.has_changed() || has_new_counts { self.breakers.clone() } else { BTreeMap::new() }
    }

    fn has_changed(&self) -> bool {
        self.breakers.values().any(SharedBreaker::has_changed)
    }
}

/// Returns true if `interval` has passed since `start`, or the clock was set back before it.
fn has_elapsed(start: Timestamp, interval: Duration, now: Timestamp) -> bool {
    now < start || now.since(start) >= interval
}

impl fmt::Debug for Breakers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Breakers").field("inner", &self.inner).finish_non_exhaustive()
    }
}
