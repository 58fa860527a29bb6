//! What a worker counts and measures of its source: plain numbers, told to whoever watches.
//!
//! Counters only grow, also over restarts, since each life goes on from the numbers of the one
//! before. Nothing is decided by them, so that losing them costs nothing but a comparison.

mod connection;
mod histogram;
mod proxies;
mod recent_outcomes;
mod request_outcome;
#[cfg(test)]
mod tests;

use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use self::connection::{CONNECTION_FAILURES_MAX, ConnectionMetrics, ReconnectDecision};
pub use self::histogram::{
    BUCKET_BOUNDS_MILLIS, Histogram, ROLLING_WINDOW_MINUTES, RollingHistogram,
};
pub use self::proxies::ProxyMetrics;
pub use self::recent_outcomes::{RECENT_OUTCOMES_MAX, RecentOutcomes};
pub use self::request_outcome::{OutcomeCounts, RequestOutcome};

use crate::engine::{Cause, Status, Timestamp};

/// The version of the format in which figures are written down.
pub const METRICS_SCHEMA: u32 = 1;

/// Everything that is counted of one source.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct SourceMetrics {
    pub schema: u32,
    /// When counting began, in milliseconds since the epoch; `None` where nobody wrote that down.
    #[serde(rename = "since")]
    pub counting_since: Option<i64>,
    /// When they were last written down, in milliseconds since the epoch.
    pub written_at: i64,
    pub requests: RequestMetrics,
    pub items: ItemMetrics,
    #[serde(rename = "course")]
    pub lifecycle: LifecycleCounters,
    /// How the last attempts to get something of the source ended.
    #[serde(rename = "attempts")]
    pub recent_outcomes: RecentOutcomes,
    #[serde(rename = "client")]
    pub connection: ConnectionMetrics,
    /// How the proxies are that it goes out by; `None` without a pool.
    pub proxies: Option<ProxyMetrics>,
}

/// HTTP requests, one by one: quick retries and redirects count each. One that was given up
/// before its end, since the worker stopped or began the stage anew, is not counted.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct RequestMetrics {
    #[serde(rename = "by_class")]
    pub by_outcome: OutcomeCounts,
    /// Those that repeat one which failed a moment before.
    pub retries: u64,
    /// Bytes of the bodies that were complete.
    pub bytes_received: u64,
    /// From sending a request to the head of its reply; those without one are not in it.
    #[serde(rename = "duration")]
    pub latency: Histogram,
    /// The same, of the last minutes.
    #[serde(rename = "recent")]
    pub recent_latency: RollingHistogram,
}

/// Items, and the documents they consist of.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct ItemMetrics {
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
    #[serde(rename = "duration")]
    pub fetch_duration: Histogram,
    /// How long it takes to make a group durable.
    #[serde(rename = "commit")]
    pub commit_duration: Histogram,
}

/// How the work goes on.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default)]
pub struct LifecycleCounters {
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
pub struct ItemTotals {
    pub listed: u64,
    pub stored: u64,
    pub gone: u64,
    pub quarantined: u64,
}

impl SourceMetrics {
    /// Nothing yet, from now on.
    #[must_use]
    pub fn counting_from(now: Timestamp) -> Self {
        Self { counting_since: Some(now.0), ..Self::default() }
    }

    /// Notes that a worker begins with the source: what the last one's client met is over.
    pub fn record_start(&mut self) {
        add_saturating(&mut self.lifecycle.starts, 1);
        self.connection.record_response();
    }

    /// Lets time pass for what is told of the last minutes. Cheap enough for every event.
    pub fn advance_to(&mut self, now: Timestamp) {
        self.requests.recent_latency.advance_to(now);
    }

    /// Notes a request that got the head of a reply after `latency`, and how it ended.
    pub fn record_response(&mut self, end: Option<Cause>, latency: Duration) {
        self.requests.by_outcome.record(RequestOutcome::from_cause(end));
        self.requests.latency.record(latency);
        self.requests.recent_latency.record(latency);
        self.connection.record_response();
    }

    /// Notes a request that got no reply, and says what it means for the client that was `made`
    /// as the so-manieth.
    pub fn record_no_response(&mut self, why: Cause, made: u64) -> ReconnectDecision {
        self.requests.by_outcome.record(RequestOutcome::from_cause(Some(why)));
        self.connection.record_failure(made)
    }

    /// Notes how an attempt to get something of the source ended.
    pub fn record_attempt(&mut self, end: Option<Cause>) {
        if let Some(success) = recent_outcomes::counts_as_success(end) {
            self.recent_outcomes.record(success);
        }
    }

    /// Notes what the ledger counts now, where it counted `before` a moment ago. What it counts
    /// anew, since a document came to a settled item, settles a second time.
    pub fn record_item_totals(&mut self, before: ItemTotals, now: ItemTotals) {
        let items = &mut self.items;
        add_saturating(&mut items.listed, now.listed.saturating_sub(before.listed));
        add_saturating(&mut items.stored, now.stored.saturating_sub(before.stored));
        add_saturating(&mut items.gone, now.gone.saturating_sub(before.gone));
        add_saturating(&mut items.quarantined, now.quarantined.saturating_sub(before.quarantined));
    }

    /// Notes that the source has come into another state.
    pub fn record_status(&mut self, status: Status) {
        match status {
            Status::RateLimited => add_saturating(&mut self.lifecycle.rate_limit_waits, 1),
            Status::Error => add_saturating(&mut self.lifecycle.error_waits, 1),
            Status::AuthFailed => add_saturating(&mut self.lifecycle.auth_waits, 1),
            Status::Idle | Status::Collecting | Status::Downloading | Status::Completed => {}
        }
    }

    /// The share of the last attempts that succeeded; `None` before the first.
    #[must_use]
    pub fn success_rate(&self) -> Option<f64> {
        self.recent_outcomes.success_rate()
    }

    /// The time within which 95 of 100 requests of the last minutes got the head of their reply.
    #[must_use]
    pub fn p95_latency(&self, now: Timestamp) -> Option<Duration> {
        self.requests.recent_latency.merged(now).quantile(0.95)
    }
}

/// Counts on. A number that cannot grow any more stays, wherever it was read from.
pub fn add_saturating(counter: &mut u64, by: u64) {
    *counter = counter.saturating_add(by);
}
