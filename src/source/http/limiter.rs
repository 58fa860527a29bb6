//! The gate before a provider, as the client sees it: who may send, when, and what came of it.
//!
//! Every request that really goes out passes it: first attempts, quick retries,
//! every hop of a redirect. What it decides by is the worker's business.

use std::fmt;
use std::time::Duration;

use futures_util::future::LocalBoxFuture;

use crate::engine::rate_limit::{HeaderNames, RateLimitHeaders, ReplyOutcome, parse_headers};
use crate::engine::{Failure, ThrottleStrikes, Timestamp};

/// Lets requests to one provider out, one by one, and learns from the replies.
pub trait RequestLimiter: fmt::Debug {
    /// Waits until the request may be sent.
    ///
    /// May be dropped while it waits. A gate that stays closed for longer than a request
    /// should wait says so instead.
    ///
    /// # Errors
    /// [`Cause::RateLimit`](crate::engine::Cause::RateLimit) with the time until which it is closed.
    fn acquire<'a>(
        &'a self,
        request: RequestInfo<'a>,
    ) -> LocalBoxFuture<'a, Result<Box<dyn Permit>, Failure>>;

    /// Returns until when a request waits to [enter](Self::enter); `None` where none does.
    fn blocked_until(&self) -> Option<Timestamp> {
        None
    }

    /// Whether a request that failed may be sent again at once. Taking it up spends it.
    fn try_take_retry(&self, request: RequestInfo<'_>) -> bool;

    /// Reads what the headers of a reply say about limits. Names in lower case.
    fn parse_headers(&self, headers: &[(&str, &str)]) -> RateLimitHeaders;
}

/// A request about to be sent.
#[derive(Clone, Copy, Debug)]
pub struct RequestInfo<'a> {
    pub host: &'a str,
    /// The path of the URL, without query.
    pub path: &'a str,
    pub attempt: AttemptKind,
    /// How the document that it is for was throttled before; none for a listing.
    pub strikes: Option<ThrottleStrikes>,
}

/// Whether a request is new, or was made before.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum AttemptKind {
    First,
    /// The first for an item that failed before while others succeeded: if it fails again, that
    /// says nothing of the server.
    Suspect,
    /// A quick second try.
    Retry,
}

/// One request on its way. Dropped without a reply, it never came back.
pub trait Permit: fmt::Debug {
    /// Notes the head of the reply, which came after `latency`.
    ///
    /// Unless it is judged before it is dropped, it was what was asked for.
    fn record_head(&mut self, signals: RateLimitHeaders, latency: Duration);

    /// Notes how long to stay away, where the head alone does not say it: a longer word holds.
    fn record_retry_after(&mut self, wait: Duration);

    /// Says what the reply amounts to. For the quota only the first word counts, for the server's
    /// health the last: a body may break off long after its head.
    ///
    /// Returns until when the gate is closed, where the reply closed it or says "too many": a
    /// moment that has passed where that was said of requests from before the last wait.
    fn record_outcome(&mut self, outcome: ReplyOutcome) -> Option<Timestamp>;

    /// Returns how the document was throttled, this reply included, once that is judged.
    fn strikes(&self) -> Option<ThrottleStrikes> {
        None
    }
}

/// A gate that is always open: for servers that are ours.
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
        // A reset counts from the reply's own date, and nobody waits here.
        parse_headers(headers, &HeaderNames::default(), Timestamp::default())
    }
}

impl Permit for NoopPermit {
    fn record_head(&mut self, _signals: RateLimitHeaders, _latency: Duration) {}

    fn record_retry_after(&mut self, _wait: Duration) {}

    fn record_outcome(&mut self, _outcome: ReplyOutcome) -> Option<Timestamp> {
        None
    }
}
