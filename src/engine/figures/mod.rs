//! What a worker counts and measures of its source: plain numbers, told to whoever watches.
//!
//! Counters only grow, also over restarts, since each life goes on from the numbers of the one
//! before. Nothing is decided by them, so that losing them costs nothing but a comparison.

mod attempts;
mod client;
mod histogram;
mod proxies;
mod reply;
#[cfg(test)]
mod tests;

use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use self::attempts::{ATTEMPTS_KEPT, Attempts};
pub use self::client::{CONNECTION_FAILURES_MAX, ClientFigures, Renew};
pub use self::histogram::{BOUNDS_MILLIS, Histogram, RECENT_MINUTES, Recent};
pub use self::proxies::ProxyFigures;
pub use self::reply::{Replies, ReplyClass};

use crate::engine::{Cause, Status, Timestamp};

/// The version of the format in which figures are written down.
pub const FIGURES_SCHEMA: u32 = 1;

/// Everything that is counted of one source.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct Figures {
    pub schema: u32,
    /// When counting began, in milliseconds since the epoch; `None` where nobody wrote that down.
    pub since: Option<i64>,
    /// When they were last written down, in milliseconds since the epoch.
    pub written_at: i64,
    pub requests: Requests,
    pub items: Items,
    pub course: Course,
    /// How the last attempts to get something of the source ended.
    pub attempts: Attempts,
    pub client: ClientFigures,
    /// How the proxies are that it goes out by; `None` without a pool.
    pub proxies: Option<ProxyFigures>,
}

/// HTTP requests, one by one: quick retries and redirects count each. One that was given up
/// before its end, since the worker stopped or began the stage anew, is not counted.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct Requests {
    pub by_class: Replies,
    /// Those that repeat one which failed a moment before.
    pub retries: u64,
    /// Bytes of the bodies that were complete.
    pub bytes_received: u64,
    /// From sending a request to the head of its reply; those without one are not in it.
    pub duration: Histogram,
    /// The same, of the last minutes.
    pub recent: Recent,
}

/// Items, and the documents they consist of.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct Items {
    pub listed: u64,
    pub stored: u64,
    pub gone: u64,
    pub quarantined: u64,
    pub documents_stored: u64,
    /// Bytes of the documents that are durable.
    pub bytes_stored: u64,
    /// Attempts at an item that failed and cost it one of those it has.
    pub failed_attempts: u64,
    /// From the first request for an item to the last answer.
    pub duration: Histogram,
    /// How long it takes to make a group durable.
    pub commit: Histogram,
}

/// How the work goes on.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default)]
pub struct Course {
    /// Times that the worker began with the source, whatever ended the life before.
    pub starts: u64,
    /// Restarts that the worker asked for.
    pub restarts: u64,
    pub sessions_completed: u64,
    /// Failures of the session, not of items.
    pub errors: u64,
    /// Waits that were begun, by what they are for.
    pub rate_limit_waits: u64,
    pub error_waits: u64,
    pub auth_waits: u64,
}

/// Items settled so far, as the ledger counts them.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Settled {
    pub listed: u64,
    pub stored: u64,
    pub gone: u64,
    pub quarantined: u64,
}

impl Figures {
    /// Nothing yet, from now on.
    #[must_use]
    pub fn begun(now: Timestamp) -> Self {
        Self { since: Some(now.0), ..Self::default() }
    }

    /// Notes that a worker begins with the source: what the last one's client met is over.
    pub fn started(&mut self) {
        grow(&mut self.course.starts, 1);
        self.client.reached();
    }

    /// Lets time pass for what is told of the last minutes. Cheap enough for every event.
    pub fn turn(&mut self, now: Timestamp) {
        self.requests.recent.turn(now);
    }

    /// Notes a request that got the head of a reply after `latency`, and how it ended.
    pub fn replied(&mut self, end: Option<Cause>, latency: Duration) {
        self.requests.by_class.note(ReplyClass::of(end));
        self.requests.duration.note(latency);
        self.requests.recent.note(latency);
        self.client.reached();
    }

    /// Notes a request that got no reply, and says what it means for the client that was `made`
    /// as the so-manieth.
    pub fn unanswered(&mut self, why: Cause, made: u64) -> Renew {
        self.requests.by_class.note(ReplyClass::of(Some(why)));
        self.client.failed(made)
    }

    /// Notes how an attempt to get something of the source ended.
    pub fn attempted(&mut self, end: Option<Cause>) {
        if let Some(success) = attempts::success(end) {
            self.attempts.note(success);
        }
    }

    /// Notes what the ledger counts now, where it counted `before` a moment ago. What it counts
    /// anew, since a document came to a settled item, settles a second time.
    pub fn settled(&mut self, before: Settled, now: Settled) {
        let items = &mut self.items;
        grow(&mut items.listed, now.listed.saturating_sub(before.listed));
        grow(&mut items.stored, now.stored.saturating_sub(before.stored));
        grow(&mut items.gone, now.gone.saturating_sub(before.gone));
        grow(&mut items.quarantined, now.quarantined.saturating_sub(before.quarantined));
    }

    /// Notes that the source has come into another state.
    pub fn entered(&mut self, status: Status) {
        match status {
            Status::RateLimited => grow(&mut self.course.rate_limit_waits, 1),
            Status::Error => grow(&mut self.course.error_waits, 1),
            Status::AuthFailed => grow(&mut self.course.auth_waits, 1),
            Status::Idle | Status::Collecting | Status::Downloading | Status::Completed => {}
        }
    }

    /// The share of the last attempts that succeeded; `None` before the first.
    #[must_use]
    pub fn success_rate(&self) -> Option<f64> {
        self.attempts.success_rate()
    }

    /// The time within which 95 of 100 requests of the last minutes got the head of their reply.
    #[must_use]
    pub fn p95(&self, now: Timestamp) -> Option<Duration> {
        self.requests.recent.together(now).quantile(0.95)
    }
}

/// Counts on. A number that cannot grow any more stays, wherever it was read from.
pub fn grow(counter: &mut u64, by: u64) {
    *counter = counter.saturating_add(by);
}
