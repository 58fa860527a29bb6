//! Rate limiter of one provider, with a scope for each of its quotas.

use std::cell::{Cell, RefCell, RefMut};
use std::collections::BTreeMap;
use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use cynosure_engine::rate_limit::{Block, ReportedLimits, ResponseOutcome, WaitReason};
use cynosure_engine::{Cause, ClockReading, ClockStep, Failure, Timestamp};
use tokio::sync::Notify;
use tracing::{error, info, warn};

use crate::disk::Durability;
use crate::env::Env;
use crate::limiter::config::LimiterConfig;
use crate::limiter::permit::{AttemptKind, PermitRequest, QuotaScope};
use crate::limiter::scope::{InFlight, ScopeDecision, ScopeLimiter};
use crate::limiter::store::LimiterStore;
use crate::state::{LimiterScope, ScopeState};

/// Interval of writes while no other process uses the file. A crash loses at most this much.
const WRITE_INTERVAL: Duration = Duration::from_secs(1);

/// Interval of checks for other processes.
const PEER_CHECK_INTERVAL: Duration = Duration::from_millis(250);

/// Maximum wait for the end of a block inside a request. A longer one is reported as a state of the
/// source.
const BLOCKED_WAIT_MAX: Duration = Duration::from_secs(5);

/// Maximum wait for pacing inside a request. A longer one is reported, because nothing else happens
/// meanwhile.
const PACED_WAIT_MAX: Duration = Duration::from_secs(60);

/// Rate limiter of one provider.
pub(super) struct ProviderLimiter<E: Env> {
    provider: String,
    env: Rc<E>,
    store: Rc<RefCell<LimiterStore>>,
    config: RefCell<LimiterConfig>,
    scopes: RefCell<BTreeMap<LimiterScope, ScopeLimiter>>,
    peers: Cell<PeerPresence>,
    sent_count: Cell<u64>,
    /// Boot time, by the clock that the scopes use.
    booted_at: Cell<Timestamp>,
}

/// Presence of other processes that use the same provider.
#[derive(Clone, Copy, Debug)]
struct PeerPresence {
    is_alone: bool,
    checked_at: Timestamp,
}

/// Scope of a request as the limiter counts it.
pub(super) struct CountedScope<'a> {
    pub(super) key: LimiterScope,
    /// Route of the request, if it has a separate budget.
    route: Option<&'a str>,
}

impl<E: Env> ProviderLimiter<E> {
    pub(super) fn new(
        provider: &str,
        env: Rc<E>,
        store: Rc<RefCell<LimiterStore>>,
        config: &LimiterConfig,
    ) -> Self {
        Self {
            provider: provider.to_owned(),
            booted_at: Cell::new(env.time().booted_at),
            env,
            store,
            config: RefCell::new(config.clone()),
            scopes: RefCell::default(),
            sent_count: Cell::new(0),
            peers: Cell::new(PeerPresence { is_alone: false, checked_at: Timestamp::default() }),
        }
    }

    /// Returns the scope that counts a request of an account.
    pub(super) fn counted_scope<'a>(
        &self,
        scope: QuotaScope<'a>,
        account: Option<&str>,
    ) -> CountedScope<'a> {
        let config = self.config.borrow();
        let route = scope.route.filter(|route| config.route_budgets.contains_key(*route));
        let key = LimiterScope::new(&self.provider, scope.server, account, route);
        CountedScope { key, route }
    }

    /// Returns the time, after shifting all scopes if the clock was stepped.
    pub(super) fn now(&self) -> Timestamp {
        let ClockReading { wall: now, booted_at } = self.env.time();
        if let Some(step) = ClockStep::between(self.booted_at.get(), booted_at) {
            self.booted_at.set(booted_at);
            for (key, scope) in self.scopes.borrow_mut().iter_mut() {
                scope.rate_limiter.shift_by(step);
                scope.next_admission_at = scope.next_admission_at.map(|at| at.shifted_by(step));
                // Times written by other processes use another clock.
                let state = scope.to_state(&self.provider, now);
                let replace = |_: Option<&ScopeState>| (Some(state), ());
                let result = self.store.borrow_mut().update(key, Durability::Durable, now, replace);
                self.record_save(scope, result);
            }
        }
        now
    }

    /// Applies a new configuration; what was learned is kept.
    pub(super) fn reconfigure(&self, config: LimiterConfig) {
        if *self.config.borrow() == config {
            return;
        }
        let now = self.now();
        for scope in self.scopes.borrow_mut().values_mut() {
            let policy = config.policy_for(scope.route.as_deref());
            scope.reconfigure(policy, config.concurrency, now);
        }
        *self.config.borrow_mut() = config;
    }

    /// Waits until a request may be sent.
    pub(super) async fn acquire(
        &self,
        counted: &CountedScope<'_>,
        request: &PermitRequest<'_>,
    ) -> Result<InFlight, Failure> {
        let mut now = self.now();
        let waiters = {
            let mut scopes = self.scopes_including(counted, now);
            let scope = scopes.get_mut(&counted.key).ok_or_else(missing_scope_error)?;
            if request.attempt != AttemptKind::Retry {
                scope.retry_budget.record_first_attempt();
            }
            Rc::clone(&scope.waiters)
        };
        let _turn = match waiters.try_lock() {
            Ok(turn) => turn,
            Err(_taken) => {
                let turn = waiters.lock().await;
                now = self.now();
                turn
            }
        };
        loop {
            let (decision, changed) = self.try_admit(counted, request.cost, now)?;
            let changed = changed.notified();
            match decision {
                ScopeDecision::Admitted(in_flight) => {
                    self.sent_count.set(in_flight.number + 1);
                    return Ok(in_flight);
                }
                ScopeDecision::WaitForSlot => changed.await,
                ScopeDecision::Wait { until, reason } => {
                    self.persist_before_wait(&counted.key, until, now);
                    self.reject_long_waits(&counted.key, until, reason, now)?;
                    let wake_at = match reason {
                        // A successful probe of another process is not announced here.
                        WaitReason::Probing => until.min(now.after(PEER_CHECK_INTERVAL)),
                        WaitReason::Blocked | WaitReason::Pacing => until,
                    };
                    tokio::select! {
                        () = self.env.sleep_until(ClockReading { wall: wake_at, booted_at: self.booted_at.get() }) => {}
                        () = changed => {}
                    }
                }
            }
            now = self.now();
        }
    }

    /// Tries to admit one request, after merging the state of other processes.
    fn try_admit(
        &self,
        counted: &CountedScope<'_>,
        cost: u32,
        now: Timestamp,
    ) -> Result<(ScopeDecision, Rc<Notify>), Failure> {
        let mut scopes = self.scopes_including(counted, now);
        let scope = scopes.get_mut(&counted.key).ok_or_else(missing_scope_error)?;
        let changed = Rc::clone(&scope.changed);
        let admit = |scope: &mut ScopeLimiter| scope.admit(cost, self.sent_count.get(), now);
        if self.is_alone(now) {
            return Ok((admit(scope), changed));
        }
        let mut decision = None;
        let result =
            self.store.borrow_mut().update(&counted.key, Durability::Visible, now, |peer| {
                scope.merge_from_peer(peer, now);
                let is_admitted =
                    matches!(decision.insert(admit(scope)), ScopeDecision::Admitted(_));
                (is_admitted.then(|| scope.to_state(&self.provider, now)), ())
            });
        if let Some(ScopeDecision::Admitted(_)) = decision {
            self.record_save(scope, result);
        } else {
            self.warn_once(result);
        }
        Ok((decision.unwrap_or_else(|| admit(scope)), changed))
    }

    /// Rejects a request that would wait too long, so that the source can show the wait.
    fn reject_long_waits(
        &self,
        key: &LimiterScope,
        until: Timestamp,
        reason: WaitReason,
        now: Timestamp,
    ) -> Result<(), Failure> {
        let max_wait = match reason {
            WaitReason::Blocked => BLOCKED_WAIT_MAX,
            WaitReason::Pacing => PACED_WAIT_MAX,
            WaitReason::Probing => Duration::MAX,
        };
        if until.since(now) < max_wait {
            return Ok(());
        }
        let scopes = self.scopes.borrow();
        let status = scopes.get(key).map(|scope| scope.rate_limiter.status(now));
        let rate = status.as_ref().and_then(|status| status.rate);
        let message = match (reason, status.and_then(|status| status.block), rate) {
            (WaitReason::Blocked, Some(block), _) => block.to_string(),
            (_, _, Some(rate)) => format!("the rate limit of {key} is {rate}"),
            (_, _, None) => format!("the rate limiter of {key} is blocked"),
        };
        Err(Failure::new(Cause::RateLimit, message).with_blocked_until(Some(until)))
    }

    /// Returns the scopes, after restoring that of the request if it is new here.
    fn scopes_including(
        &self,
        counted: &CountedScope<'_>,
        now: Timestamp,
    ) -> RefMut<'_, BTreeMap<LimiterScope, ScopeLimiter>> {
        let mut scopes = self.scopes.borrow_mut();
        let CountedScope { key, route } = counted;
        if !scopes.contains_key(key) {
            let mut saved = ScopeState::default();
            let result =
                self.store.borrow_mut().update(key, Durability::Visible, now, |peer_state| {
                    saved = peer_state.cloned().unwrap_or_default();
                    (None, ())
                });
            self.warn_once(result);
            let config = self.config.borrow();
            let (policy, route) = (config.policy_for(*route), route.map(str::to_owned));
            let scope = ScopeLimiter::new(policy, config.concurrency, route, &saved, now);
            scopes.insert(key.clone(), scope);
        }
        scopes
    }

    /// Records a response and wakes the waiting requests.
    pub(super) fn record_response(
        &self,
        key: &LimiterScope,
        in_flight: &InFlight,
        outcome: ResponseOutcome,
        limits: &ReportedLimits,
    ) -> Option<Timestamp> {
        let (now, sample) = (self.now(), self.env.random_sample());
        let mut scopes = self.scopes.borrow_mut();
        let scope = scopes.get_mut(key)?;
        let block = scope.record_response(in_flight, outcome, limits, now, sample);
        if let Some(block) = &block {
            log_block(key, block);
        }
        // A block must survive the process and a power cut.
        let durability = if block.is_some() { Durability::Durable } else { Durability::Visible };
        if block.is_some() || is_write_due(scope, now) || !self.is_alone(now) {
            self.persist(key, scope, durability, now);
        }
        scope.changed.notify_waiters();
        match (block, outcome) {
            (Some(block), _) => Some(block.until),
            // Throttled along with earlier requests: wait for the block these caused.
            (None, ResponseOutcome::Throttled) => {
                Some(scope.rate_limiter.current_block(now).map_or(now, |block| block.until))
            }
            (None, ResponseOutcome::Accepted | ResponseOutcome::Failed) => None,
        }
    }

    /// Records received bytes. They are saved in time even if no response ends for long.
    pub(super) fn record_bytes(&self, key: &LimiterScope, bytes: u64) {
        self.update_scope(key, |scope, now| {
            if scope.rate_limiter.record_bytes(bytes, now) {
                scope.has_unsaved_changes = true;
                if is_write_due(scope, now) {
                    self.persist(key, scope, Durability::Visible, now);
                }
            }
        });
    }

    /// Updates the scope of a request that was sent.
    pub(super) fn update_scope(
        &self,
        key: &LimiterScope,
        update: impl FnOnce(&mut ScopeLimiter, Timestamp),
    ) {
        let now = self.now();
        if let Some(scope) = self.scopes.borrow_mut().get_mut(key) {
            update(scope, now);
        }
    }

    /// Takes one retry from the retry budget of a scope. Returns true if it had one.
    pub(super) fn try_take_retry(&self, counted: &CountedScope<'_>) -> bool {
        let now = self.now();
        let mut scopes = self.scopes_including(counted, now);
        scopes.get_mut(&counted.key).is_none_or(|scope| scope.retry_budget.try_take_retry(now))
    }

    /// Returns the latest time until which a request of one of these scopes waits, if known.
    pub(super) fn next_admission_at(&self, keys: &[LimiterScope]) -> Option<Timestamp> {
        let scopes = self.scopes.borrow();
        keys.iter().filter_map(|key| scopes.get(key)?.next_admission_at).max()
    }

    pub(super) fn latest_accepted(&self, key: &LimiterScope) -> Option<u64> {
        self.scopes.borrow().get(key)?.latest_accepted
    }

    fn persist(
        &self,
        key: &LimiterScope,
        scope: &mut ScopeLimiter,
        durability: Durability,
        now: Timestamp,
    ) {
        let result = self.store.borrow_mut().update(key, durability, now, |peer_state| {
            scope.merge_from_peer(peer_state, now);
            (Some(scope.to_state(&self.provider, now)), ())
        });
        (scope.persisted_at, scope.has_unsaved_changes) = (now, false);
        self.record_save(scope, result);
    }

    /// Saves unsaved changes before a long wait, in case the process ends during it.
    fn persist_before_wait(&self, key: &LimiterScope, until: Timestamp, now: Timestamp) {
        let mut scopes = self.scopes.borrow_mut();
        let unsaved = scopes.get_mut(key).filter(|scope| scope.has_unsaved_changes);
        if let Some(scope) = unsaved.filter(|_| now.after(WRITE_INTERVAL) <= until) {
            self.persist(key, scope, Durability::Visible, now);
        }
    }

    fn flush(&self) {
        let now = self.now();
        for (key, scope) in self.scopes.borrow_mut().iter_mut() {
            self.persist(key, scope, Durability::Visible, now);
        }
    }

    fn is_alone(&self, now: Timestamp) -> bool {
        let presence = self.peers.get();
        if now < presence.checked_at.after(PEER_CHECK_INTERVAL) && presence.checked_at <= now {
            return presence.is_alone;
        }
        let is_alone = self.store.borrow().is_only_process();
        self.peers.set(PeerPresence { is_alone, checked_at: now });
        is_alone
    }

    /// Records the result of a write of the whole state of a scope.
    fn record_save(&self, scope: &mut ScopeLimiter, result: Result<(), Failure>) {
        if result.is_ok() {
            scope.rate_limiter.record_saved();
        }
        self.warn_once(result);
    }

    fn warn_once(&self, result: Result<(), Failure>) {
        if let Err(failure) = result
            && self.store.borrow_mut().should_warn()
        {
            let cause = failure.cause;
            warn!(%cause, error = %failure, "cannot save the state of the rate limiter");
        }
    }
}

/// True if the last write is too old, or made by a clock that was ahead.
fn is_write_due(scope: &ScopeLimiter, now: Timestamp) -> bool {
    scope.persisted_at.after(WRITE_INTERVAL) <= now || now < scope.persisted_at
}

fn log_block(key: &LimiterScope, block: &Block) {
    let until = block.until;
    if block.exceeds_max_wait {
        error!(
            scope = %key, %until, reason = %block,
            "manual intervention required: rate limiter blocked for longer than `max_wait`"
        );
    } else {
        info!(scope = %key, %until, reason = %block, "rate limiter blocked");
    }
}

fn missing_scope_error() -> Failure {
    Failure::new(Cause::Unknown, "the rate limiter has no state for this scope")
}

impl<E: Env> fmt::Debug for ProviderLimiter<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProviderLimiter").field("provider", &self.provider).finish_non_exhaustive()
    }
}

impl<E: Env> Drop for ProviderLimiter<E> {
    fn drop(&mut self) {
        self.flush();
    }
}
