//! Rate limiter as seen by one account, and the permits that it hands out.

use std::cell::RefCell;
use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use cynosure_engine::rate_limit::{ReportedLimits, ResponseOutcome};
use cynosure_engine::{Failure, ThrottleStrikes, Timestamp};
use futures_util::future::LocalBoxFuture;

use crate::env::Env;
use crate::limiter::permit::{AttemptKind, Permit, PermitRequest, QuotaScope, RequestLimiter};
use crate::limiter::provider::ProviderLimiter;
use crate::limiter::scope::{InFlight, load_signal};
use crate::limiter::wait_guard::WaitGuard;
use crate::state::LimiterScope;

/// Rate limiter as seen by one account.
pub struct LimiterHandle<E: Env> {
    limiter: Rc<ProviderLimiter<E>>,
    /// Account name, if the accounts of the provider have separate limits.
    account: Option<String>,
    /// Scopes of the waiting requests, one entry per request.
    waiting: Rc<RefCell<Vec<LimiterScope>>>,
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
}

impl<E: Env> RequestLimiter for LimiterHandle<E> {
    fn acquire<'a>(
        &'a self,
        request: PermitRequest<'a>,
    ) -> LocalBoxFuture<'a, Result<Box<dyn Permit>, Failure>> {
        Box::pin(async move {
            let scope = self.limiter.counted_scope(request.scope, self.account.as_deref());
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
        self.limiter.next_admission_at(&self.waiting.borrow())
    }

    fn try_take_retry(&self, scope: QuotaScope<'_>) -> bool {
        self.limiter.try_take_retry(&self.limiter.counted_scope(scope, self.account.as_deref()))
    }

    fn now(&self) -> Timestamp {
        self.limiter.now()
    }
}

impl<E: Env> fmt::Debug for LimiterHandle<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LimiterHandle").field("limiter", &self.limiter).finish_non_exhaustive()
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

    fn record_lock_out(&mut self, first_wait: Duration) {
        self.limits.lock_out_wait = Some(first_wait);
        // The account is locked, although other requests may succeed, such as a login.
        self.strikes = None;
    }

    fn record_bytes(&mut self, bytes: u64) {
        self.limiter.record_bytes(&self.scope_key, bytes);
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
        self.limiter.update_scope(&self.scope_key, |scope, now| {
            if self.outcome.is_none() {
                scope.rate_limiter.record_cancelled(self.in_flight.token, now);
            }
            let in_flight = &self.in_flight;
            let signal =
                load_signal(self.outcome, self.attempt, self.time_to_first_byte, in_flight, now);
            scope.release(in_flight, signal, now);
        });
    }
}

impl<E: Env> fmt::Debug for RequestPermit<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestPermit").field("scope", &self.scope_key).finish_non_exhaustive()
    }
}
