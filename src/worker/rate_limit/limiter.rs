//! Rate limiter of one provider, and the handles of its accounts.

use std::cell::{Cell, RefCell, RefMut};
use std::collections::BTreeMap;
use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use futures_util::future::LocalBoxFuture;
use tokio::sync::Notify;
use tracing::{error, info, warn};

use crate::disk::Durability;
use crate::engine::rate_limit::{
    Block, RateLimitHeaders, ResponseOutcome, WaitReason, parse_headers,
};
use crate::engine::{Cause, ClockReading, ClockStep, Failure, ThrottleStrikes, Timestamp};
use crate::source::http::{AttemptKind, Permit, RequestInfo, RequestLimiter};
use crate::state::{LimiterScope, ScopeState};
use crate::worker::env::Env;
use crate::worker::rate_limit::scope::{InFlight, ScopeDecision, ScopeLimiter, load_signal};
use crate::worker::rate_limit::store::LimiterStore;
use crate::worker::rate_limit::wait_guard::WaitGuard;
use crate::worker::rate_limit::{BLOCKED_WAIT_MAX, PACED_WAIT_MAX, RateLimitConfig};

/// Interval of writes while no other process uses the file. A crash loses at most this much.
const WRITE_INTERVAL: Duration = Duration::from_secs(1);

/// Interval of checks for other processes.
const PEER_CHECK_INTERVAL: Duration = Duration::from_millis(250);

/// Rate limiter of one provider.
pub(super) struct ProviderLimiter<E: Env> {
    provider: String,
    env: Rc<E>,
    store: Rc<RefCell<LimiterStore>>,
    config: RefCell<RateLimitConfig>,
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

struct RequestCost {
    scope_key: LimiterScope,
    weight: u32,
    /// Path of the route, if it has a separate budget.
    route: Option<String>,
}

struct RequestPermit<E: Env> {
    limiter: Rc<ProviderLimiter<E>>,
    scope_key: LimiterScope,
    in_flight: InFlight,
    attempt: AttemptKind,
    headers: RateLimitHeaders,
    time_to_first_byte: Option<Duration>,
    outcome: Option<ResponseOutcome>,
    /// Strikes of the document, if the request is for one.
    strikes: Option<ThrottleStrikes>,
}

impl<E: Env> LimiterHandle<E> {
    pub(super) fn new(limiter: Rc<ProviderLimiter<E>>, account: Option<String>) -> Self {
        Self { limiter, account, waiting: Rc::default() }
    }

    fn request_cost(&self, request: RequestInfo<'_>) -> RequestCost {
        let config = self.limiter.config.borrow();
        let route = config.provider.find_route(request.path);
        let weight = route.map_or(1, |route| route.weight);
        let route = route.filter(|route| route.budget.is_some()).map(|route| route.path.clone());
        let (provider, account) = (&self.limiter.provider, self.account.as_deref());
        let scope_key = LimiterScope::new(provider, request.host, account, route.as_deref());
        RequestCost { scope_key, weight, route }
    }
}

impl<E: Env> RequestLimiter for LimiterHandle<E> {
    fn acquire<'a>(
        &'a self,
        request: RequestInfo<'a>,
    ) -> LocalBoxFuture<'a, Result<Box<dyn Permit>, Failure>> {
        let cost = self.request_cost(request);
        Box::pin(async move {
            let wait_guard = WaitGuard::enqueue(&self.waiting, &cost.scope_key);
            let in_flight = self.limiter.acquire(&cost, request.attempt).await?;
            drop(wait_guard);
            Ok(Box::new(RequestPermit {
                limiter: Rc::clone(&self.limiter),
                scope_key: cost.scope_key,
                in_flight,
                attempt: request.attempt,
                headers: RateLimitHeaders::default(),
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

    fn try_take_retry(&self, request: RequestInfo<'_>) -> bool {
        let cost = self.request_cost(request);
        let now = self.limiter.now();
        let mut scopes = self.limiter.scopes_including(&cost, now);
        scopes.get_mut(&cost.scope_key).is_none_or(|scope| scope.retry_budget.try_take_retry(now))
    }

    fn parse_headers(&self, headers: &[(&str, &str)]) -> RateLimitHeaders {
        parse_headers(headers, &self.limiter.config.borrow().provider.headers, self.limiter.now())
    }
}

impl<E: Env> ProviderLimiter<E> {
    pub(super) fn new(
        provider: &str,
        env: Rc<E>,
        store: Rc<RefCell<LimiterStore>>,
        config: &RateLimitConfig,
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
    pub(super) fn reconfigure(&self, config: RateLimitConfig) {
        if *self.config.borrow() == config {
            return;
        }
        let now = self.now();
        for scope in self.scopes.borrow_mut().values_mut() {
            let policy = config.policy_for(scope.route.as_deref());
            scope.reconfigure(policy, config.provider.concurrency, now);
        }
        *self.config.borrow_mut() = config;
    }

    async fn acquire(&self, cost: &RequestCost, attempt: AttemptKind) -> Result<InFlight, Failure> {
        let mut now = self.now();
        let waiters = {
            let mut scopes = self.scopes_including(cost, now);
            let scope = scopes.get_mut(&cost.scope_key).ok_or_else(missing_scope_error)?;
            if attempt != AttemptKind::Retry {
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
            let (decision, changed) = self.try_admit(cost, now)?;
            let changed = changed.notified();
            match decision {
                ScopeDecision::Admitted(in_flight) => {
                    self.sent_count.set(in_flight.number + 1);
                    return Ok(in_flight);
                }
                ScopeDecision::WaitForSlot => changed.await,
                ScopeDecision::Wait { until, reason } => {
                    self.persist_before_wait(&cost.scope_key, until, now);
                    self.reject_long_waits(&cost.scope_key, until, reason, now)?;
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
        cost: &RequestCost,
        now: Timestamp,
    ) -> Result<(ScopeDecision, Rc<Notify>), Failure> {
        let mut scopes = self.scopes_including(cost, now);
        let scope = scopes.get_mut(&cost.scope_key).ok_or_else(missing_scope_error)?;
        let changed = Rc::clone(&scope.changed);
        let admit = |scope: &mut ScopeLimiter| scope.admit(cost.weight, self.sent_count.get(), now);
        if self.is_alone(now) {
            return Ok((admit(scope), changed));
        }
        let mut decision = None;
        let result =
            self.store.borrow_mut().update(&cost.scope_key, Durability::Visible, now, |peer| {
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
        cost: &RequestCost,
        now: Timestamp,
    ) -> RefMut<'_, BTreeMap<LimiterScope, ScopeLimiter>> {
        let mut scopes = self.scopes.borrow_mut();
        if !scopes.contains_key(&cost.scope_key) {
            let mut saved = ScopeState::default();
            let result = self.store.borrow_mut().update(
                &cost.scope_key,
                Durability::Visible,
                now,
                |peer_state| {
                    saved = peer_state.cloned().unwrap_or_default();
                    (None, ())
                },
            );
            self.warn_once(result);
            let config = self.config.borrow();
            let policy = config.policy_for(cost.route.as_deref());
            let concurrency = config.provider.concurrency;
            let scope = ScopeLimiter::new(policy, concurrency, cost.route.clone(), &saved, now);
            scopes.insert(cost.scope_key.clone(), scope);
        }
        scopes
    }

    /// Records a response and wakes the waiting requests.
    fn record_response(
        &self,
        key: &LimiterScope,
        in_flight: &InFlight,
        outcome: ResponseOutcome,
        headers: &RateLimitHeaders,
    ) -> Option<Timestamp> {
        let (now, sample) = (self.now(), self.env.random_sample());
        let mut scopes = self.scopes.borrow_mut();
        let scope = scopes.get_mut(key)?;
        let block = scope.record_response(in_flight, outcome, headers, now, sample);
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
    fn record_head(&mut self, headers: RateLimitHeaders, latency: Duration) {
        self.headers = headers;
        self.time_to_first_byte = Some(latency);
    }

    fn record_retry_after(&mut self, retry_after: Duration) {
        self.headers.retry_after = self.headers.retry_after.max(Some(retry_after));
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
                // Other requests succeed: neither the throttle nor its headers concern the limit.
                let headers = RateLimitHeaders::default();
                return self.limiter.record_response(
                    &self.scope_key,
                    &self.in_flight,
                    ResponseOutcome::Failed,
                    &headers,
                );
            }
        }
        self.limiter.record_response(&self.scope_key, &self.in_flight, outcome, &self.headers)
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
