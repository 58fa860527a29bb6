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
pub trait Gate: fmt::Debug {
    /// Waits until the request may be sent.
    ///
    /// May be dropped while it waits. A gate that stays closed for longer than a request
    /// should wait says so instead.
    ///
    /// # Errors
    /// [`Cause::RateLimit`](crate::engine::Cause::RateLimit) with the time until which it is closed.
    fn enter<'a>(
        &'a self,
        request: Outgoing<'a>,
    ) -> LocalBoxFuture<'a, Result<Box<dyn Passage>, Failure>>;

    /// Returns until when a request waits to [enter](Self::enter); `None` where none does.
    fn waits_until(&self) -> Option<Timestamp> {
        None
    }

    /// Whether a request that failed may be sent again at once. Taking it up spends it.
    fn may_retry(&self, request: Outgoing<'_>) -> bool;

    /// Reads what the headers of a reply say about limits. Names in lower case.
    fn understand(&self, headers: &[(&str, &str)]) -> RateLimitHeaders;
}

/// A request about to be sent.
#[derive(Clone, Copy, Debug)]
pub struct Outgoing<'a> {
    pub host: &'a str,
    /// The path of the URL, without query.
    pub path: &'a str,
    pub attempt: Attempt,
    /// How the document that it is for was throttled before; none for a listing.
    pub strikes: Option<ThrottleStrikes>,
}

/// Whether a request is new, or was made before.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Attempt {
    First,
    /// The first for an item that failed before while others succeeded: if it fails again, that
    /// says nothing of the server.
    Suspect,
    /// A quick second try.
    Again,
}

/// One request on its way. Dropped without a reply, it never came back.
pub trait Passage: fmt::Debug {
    /// Notes the head of the reply, which came after `latency`.
    ///
    /// Unless it is judged before it is dropped, it was what was asked for.
    fn head(&mut self, signals: RateLimitHeaders, latency: Duration);

    /// Notes how long to stay away, where the head alone does not say it: a longer word holds.
    fn told(&mut self, wait: Duration);

    /// Says what the reply amounts to. For the quota only the first word counts, for the server's
    /// health the last: a body may break off long after its head.
    ///
    /// Returns until when the gate is closed, where the reply closed it or says "too many": a
    /// moment that has passed where that was said of requests from before the last wait.
    fn judge(&mut self, outcome: ReplyOutcome) -> Option<Timestamp>;

    /// Returns how the document was throttled, this reply included, once that is judged.
    fn strikes(&self) -> Option<ThrottleStrikes> {
        None
    }
}

/// A gate that is always open: for servers that are ours.
#[derive(Clone, Copy, Debug, Default)]
pub struct OpenGate;

#[derive(Debug)]
struct Unwatched;

impl Gate for OpenGate {
    fn enter<'a>(
        &'a self,
        _request: Outgoing<'a>,
    ) -> LocalBoxFuture<'a, Result<Box<dyn Passage>, Failure>> {
        Box::pin(async { Ok(Box::new(Unwatched) as Box<dyn Passage>) })
    }

    fn may_retry(&self, _request: Outgoing<'_>) -> bool {
        true
    }

    fn understand(&self, headers: &[(&str, &str)]) -> RateLimitHeaders {
        // A reset counts from the reply's own date, and nobody waits here.
        parse_headers(headers, &HeaderNames::default(), Timestamp::default())
    }
}

impl Passage for Unwatched {
    fn head(&mut self, _signals: RateLimitHeaders, _latency: Duration) {}

    fn told(&mut self, _wait: Duration) {}

    fn judge(&mut self, _outcome: ReplyOutcome) -> Option<Timestamp> {
        None
    }
}
