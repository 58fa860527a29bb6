//! Interface of a provider's rate limiter, as used by the HTTP client.
//!
//! Every request that is really sent passes the limiter: first attempts, quick retries, every hop
//! of a redirect. The worker implements the decisions.

use std::fmt;
use std::time::Duration;

use futures_util::future::LocalBoxFuture;

use crate::engine::rate_limit::{HeaderNames, RateLimitHeaders, ResponseOutcome, parse_headers};
use crate::engine::{Failure, ThrottleStrikes, Timestamp};

/// Rate limiter of one provider. It admits requests one by one and learns from the responses.
pub trait RequestLimiter: fmt::Debug {
    /// Waits until the request may be sent.
    ///
    /// The future may be dropped while it waits. If the limiter is blocked for longer than a
    /// request should wait, it returns an error instead.
    ///
    /// # Errors
    /// Returns [`Cause::RateLimit`](crate::engine::Cause::RateLimit) with the time until which the
    /// limiter is blocked.
    fn acquire<'a>(
        &'a self,
        request: RequestInfo<'a>,
    ) -> LocalBoxFuture<'a, Result<Box<dyn Permit>, Failure>>;

    /// Returns the time until which a request waits in [`acquire`](Self::acquire); `None` if none
    /// waits.
    fn blocked_until(&self) -> Option<Timestamp> {
        None
    }

    /// Takes one retry from the retry budget. Returns true if the failed request may be sent again
    /// now.
    fn try_take_retry(&self, request: RequestInfo<'_>) -> bool;

    /// Parses the rate limit headers of a response. Header names are lower-case.
    fn parse_headers(&self, headers: &[(&str, &str)]) -> RateLimitHeaders;
}

/// Request about to be sent.
#[derive(Clone, Copy, Debug)]
pub struct RequestInfo<'a> {
    pub host: &'a str,
    /// Path of the URL, without the query.
    pub path: &'a str,
    pub attempt: AttemptKind,
    /// Earlier throttles of the requested document; `None` for a listing.
    pub strikes: Option<ThrottleStrikes>,
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
    /// Records the head of the response, which came after `latency`.
    ///
    /// If the permit is dropped without a recorded outcome after that, the response counts as
    /// accepted.
    fn record_head(&mut self, headers: RateLimitHeaders, latency: Duration);

    /// Records a retry-after that is not in the headers. The longest one applies.
    fn record_retry_after(&mut self, retry_after: Duration);

    /// Records the outcome of the response. The first outcome counts for the rate limit, the last
    /// one for the server's health, because a body may break off long after its head.
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
        _request: RequestInfo<'a>,
    ) -> LocalBoxFuture<'a, Result<Box<dyn Permit>, Failure>> {
        Box::pin(async { Ok(Box::new(NoopPermit) as Box<dyn Permit>) })
    }

    fn try_take_retry(&self, _request: RequestInfo<'_>) -> bool {
        true
    }

    fn parse_headers(&self, headers: &[(&str, &str)]) -> RateLimitHeaders {
        // Reset times are relative to the response's date, and nothing waits for them here.
        parse_headers(headers, &HeaderNames::default(), Timestamp::default())
    }
}

impl Permit for NoopPermit {
    fn record_head(&mut self, _headers: RateLimitHeaders, _latency: Duration) {}

    fn record_retry_after(&mut self, _retry_after: Duration) {}

    fn record_outcome(&mut self, _outcome: ResponseOutcome) -> Option<Timestamp> {
        None
    }
}
