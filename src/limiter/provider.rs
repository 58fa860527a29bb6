//! Rate limiter of one provider, and the handles of its accounts.

use std::cell::{Cell, RefCell, RefMut};
use std::collections::BTreeMap;
use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use cynosure_engine::rate_limit::{Block, ReportedLimits, ResponseOutcome, WaitReason};
use cynosure_engine::{Cause, ClockReading, ClockStep, Failure, ThrottleStrikes, Timestamp};
use futures_util::future::LocalBoxFuture;
use tokio::sync::Notify;
use tracing::{error, info, warn};

use crate::disk::Durability;
use crate::env::Env;
use crate::limiter::config::LimiterConfig;
use crate::limiter::permit::{AttemptKind, Permit, PermitRequest, QuotaScope, RequestLimiter};
use crate::limiter::scope::{InFlight, ScopeDecision, ScopeLimiter, load_signal};
use crate::limiter::store::LimiterStore;
use crate::limiter::wait_guard::WaitGuard;
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

/// Rate limiter as seen by one account.
pub struct LimiterHandle<E: Env> {
    limiter: Rc<ProviderLimiter<E>>,
    /// Account name, if the accounts of the provider have separate limits.
    account: Option<String>,
    /// Scopes of the waiting requests, one entry per request.
    waiting: Rc<RefCell<Vec<LimiterScope>>>,
}

/// Scope of a request as the limiter counts it.
struct CountedScope<'a> {
    key: LimiterScope,
    /// Route of the request, if it has a separate budget.
    route: Option<&'a str>,
}

struct RequestPermit<E: Env> {
    limiter: Rc<ProviderLimiter<E>>,
    scope_key: LimiterScope,
    in_flight: InFlight,
    attempt: AttemptKind,
    limits: ReportedLimits,
    time_to_first_byte: Option<Duration>,
    outcome: Option<ResponseOutcome>,
    /// Strikes of the document, if the request is for one.
    strikes: Option<ThrottleStrikes>,
}

impl<E: Env> LimiterHandle<E> {
    pub(super) fn new(limiter: Rc<ProviderLimiter<E>>, account: Option<String>) -> Self {
        Self { limiter, account, waiting: Rc::default() }
    }

    fn counted_scope<'a>(&self, scope: QuotaScope<'a>) -> CountedScope<'a> {
        let config = self.limiter.config.borrow();
        let route = scope.route.filter(|route| config.route_budgets.contains_key(*route));
        let (provider, account) = (&self.limiter.provider, self.account.as_deref());
        CountedScope { key: LimiterScope::new(provider, scope.server, account, route), route }
    }
}

impl<E: Env> RequestLimiter for LimiterHandle<E> {
    fn acquire<'a>(
        &'a self,
        request: PermitRequest<'a>,
    ) -> LocalBoxFuture<'a, Result<Box<dyn Permit>, Failure>> {
        Box::pin(async move {
            let scope = self.counted_scope(request.scope);
            let wait_guard = WaitGuard::enqueue(&self.waiting, &scope.key);
            let in_flight = self.limiter.acquire(&scope, &request).await?;
            drop(wait_guard);
            Ok(Box::new(RequestPermit {
                limiter: Rc::clone(&self.limiter),
                scope_key: scope.key,
                in_flight,
                attempt: request.attempt,
                limits: ReportedLimits::default(),
                time_to_first_byte: None,
                outcome: None,
                strikes: request.strikes,
            }) as Box<dyn Permit>)
        })
    }

    fn blocked_until(&self) -> Option<Timestamp> {
        let (waiting, scopes) = (self.waiting.borrow(), self.limiter.scopes.borrow());
        waiting.iter().filter_map(|key| scopes.get(key)?.next_admission_at).max()
    }

    fn try_take_retry(&self, scope: QuotaScope<'_>) -> bool {
        let (counted, now) = (self.counted_scope(scope), self.limiter.now());
        let mut scopes = self.limiter.scopes_including(&counted, now);
        scopes.get_mut(&counted.key).is_none_or(|scope| scope.retry_budget.try_take_retry(now))
    }

    fn now(&self) -> Timestamp {
        self.limiter.now()
    }
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

    /// Returns the time, after shifting all scopes if the clock was stepped.
    fn now(&self) -> Timestamp {
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
                self.warn_once(result);
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

    async fn acquire(
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
        self.warn_once(result);
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
    fn record_response(
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
        let is_due = scope.persisted_at.after(WRITE_INTERVAL) <= now || now < scope.persisted_at;
        if block.is_some() || is_due || !self.is_alone(now) {
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

    fn latest_accepted(&self, key: &LimiterScope) -> Option<u64> {
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
        self.warn_once(result);
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

    fn warn_once(&self, result: Result<(), Failure>) {
        if let Err(failure) = result
            && self.store.borrow_mut().should_warn()
        {
            let cause = failure.cause;
            warn!(%cause, error = %failure, "cannot save the state of the rate limiter");
        }
    }
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

impl<E: Env> fmt::Debug for LimiterHandle<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LimiterHandle")
            .field("provider", &self.limiter.provider)
            .finish_non_exhaustive()
    }
}

impl<E: Env> Permit for RequestPermit<E> {
    fn record_response_start(&mut self, limits: ReportedLimits, latency: Duration) {
        self.limits = limits;
        self.time_to_first_byte = Some(latency);
    }

    fn record_retry_after(&mut self, retry_after: Duration) {
        self.limits.retry_after = self.limits.retry_after.max(Some(retry_after));
    }

    fn record_outcome(&mut self, outcome: ResponseOutcome) -> Option<Timestamp> {
        if self.outcome.replace(outcome).is_some() {
            return None;
        }
        if outcome == ResponseOutcome::Throttled
            && let Some(strikes) = &mut self.strikes
        {
            *strikes = strikes.with_throttle(
                self.in_flight.number,
                self.limiter.latest_accepted(&self.scope_key),
            );
            if strikes.is_item_specific() {
                // Other requests succeed: neither the throttle nor what it reports is about the quota.
                let limits = ReportedLimits::default();
                return self.limiter.record_response(
                    &self.scope_key,
                    &self.in_flight,
                    ResponseOutcome::Failed,
                    &limits,
                );
            }
        }
        self.limiter.record_response(&self.scope_key, &self.in_flight, outcome, &self.limits)
    }

    fn strikes(&self) -> Option<ThrottleStrikes> {
        self.strikes.filter(|_| self.outcome == Some(ResponseOutcome::Throttled))
    }
}

impl<E: Env> Drop for RequestPermit<E> {
    fn drop(&mut self) {
        if self.outcome.is_none() && self.time_to_first_byte.is_some() {
            self.record_outcome(ResponseOutcome::Accepted);
        }
        let now = self.limiter.now();
        let mut scopes = self.limiter.scopes.borrow_mut();
        let Some(scope) = scopes.get_mut(&self.scope_key) else { return };
        if self.outcome.is_none() {
            scope.rate_limiter.record_cancelled(self.in_flight.token, now);
        }
        let signal =
            load_signal(self.outcome, self.attempt, self.time_to_first_byte, &self.in_flight, now);
        scope.release(&self.in_flight, signal, now);
    }
}

impl<E: Env> fmt::Debug for RequestPermit<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestPermit").field("scope", &self.scope_key).finish_non_exhaustive()
    }
}
