//! Interface of the limiter layer, as used by the sources.
//!
//! Every request that is really sent needs a permit: first attempts, quick retries, every hop of a
//! redirect.

use std::fmt;
use std::time::Duration;

use cynosure_engine::rate_limit::{ReportedLimits, ResponseOutcome};
use cynosure_engine::{Failure, ThrottleStrikes, Timestamp};
use futures_util::future::LocalBoxFuture;

/// Rate limiter of one provider. It admits requests one by one and learns from the responses.
pub trait RequestLimiter: fmt::Debug {
    /// Waits until the request may be sent.
    ///
    /// The future may be dropped while it waits. If the limiter is blocked for longer than a
    /// request should wait, it returns an error instead.
    ///
    /// # Errors
    /// Returns [`Cause::RateLimit`](cynosure_engine::Cause::RateLimit) with the time until which
    /// the limiter is blocked.
    fn acquire<'a>(
        &'a self,
        request: PermitRequest<'a>,
    ) -> LocalBoxFuture<'a, Result<Box<dyn Permit>, Failure>>;

    /// Returns the time until which a request waits in [`acquire`](Self::acquire); `None` if none
    /// waits.
    fn blocked_until(&self) -> Option<Timestamp> {
        None
    }

    /// Takes one retry from the retry budget. Returns true if the failed request may be sent again
    /// now.
    fn try_take_retry(&self, scope: QuotaScope<'_>) -> bool;

    /// Returns the current time by the clock of the limiter. Reset times that a server reports are
    /// converted to it.
    fn now(&self) -> Timestamp;
}

/// Request for a permit.
#[derive(Clone, Copy, Debug)]
pub struct PermitRequest<'a> {
    pub scope: QuotaScope<'a>,
    /// Units that the request takes from the quota.
    pub cost: u32,
    pub attempt: AttemptKind,
    /// Earlier throttles of the requested document; `None` for a listing.
    pub strikes: Option<ThrottleStrikes>,
}

/// Scope of the quota that a request takes from.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct QuotaScope<'a> {
    /// Host name of the server.
    pub server: &'a str,
    /// Configured route of the request; `None` if none applies.
    pub route: Option<&'a str>,
}

/// Kind of an attempt: first attempt or retry.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum AttemptKind {
    First,
    /// First attempt for an item that failed before while others succeeded. If it fails again, that
    /// says nothing about the server.
    Suspect,
    /// Quick retry of the same request.
    Retry,
}

/// Permit of one request in flight. Dropped without a response, the request counts as cancelled.
pub trait Permit: fmt::Debug {
    /// Records the beginning of the response, which came after `latency`, and the limits that it
    /// reports.
    ///
    /// If the permit is dropped without a recorded outcome after that, the response counts as
    /// accepted.
    fn record_response_start(&mut self, limits: ReportedLimits, latency: Duration);

    /// Records a retry-after from the text of the response. The longest one applies.
    fn record_retry_after(&mut self, retry_after: Duration);

    /// Records that the response means a lock-out whose end the server does not name. The wait is
    /// `first_wait` for the first of several in a row, and doubles with each.
    fn record_lock_out(&mut self, _first_wait: Duration) {}

    /// Records received bytes of documents, also of discarded ones, because the server counts them
    /// too. They show that a lock-out has ended.
    fn record_bytes(&mut self, _bytes: u64) {}

    /// Records the outcome of the response. The first outcome counts for the rate limit, the last
    /// one for the server's health, because a body may break off long after its beginning.
    ///
    /// Returns the time until which the limiter is blocked, if the response blocked it or reports
    /// rate limiting. That time has already passed if the request was sent before the last wait.
    fn record_outcome(&mut self, outcome: ResponseOutcome) -> Option<Timestamp>;

    /// Returns the throttles of the document including this response, once its outcome is recorded.
    fn strikes(&self) -> Option<ThrottleStrikes> {
        None
    }
}

/// Limiter that admits every request, for our own servers.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unlimited;

#[derive(Debug)]
struct NoopPermit;

impl RequestLimiter for Unlimited {
    fn acquire<'a>(
        &'a self,
        _request: PermitRequest<'a>,
    ) -> LocalBoxFuture<'a, Result<Box<dyn Permit>, Failure>> {
        Box::pin(async { Ok(Box::new(NoopPermit) as Box<dyn Permit>) })
    }

    fn try_take_retry(&self, _scope: QuotaScope<'_>) -> bool {
        true
    }

    fn now(&self) -> Timestamp {
        // Nothing waits for the reset times of our own servers.
        Timestamp::default()
    }
}

impl Permit for NoopPermit {
    fn record_response_start(&mut self, _limits: ReportedLimits, _latency: Duration) {}

    fn record_retry_after(&mut self, _retry_after: Duration) {}

    fn record_outcome(&mut self, _outcome: ResponseOutcome) -> Option<Timestamp> {
        None
    }
}
