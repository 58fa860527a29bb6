//! Metrics that a worker counts and measures of its source, for monitoring.
//!
//! Counters never decrease, also over restarts, because each run continues from the numbers of the
//! previous one. No decision depends on the counters, so losing them costs only a comparison.

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

use crate::{Cause, Status, Timestamp};

/// Version of the metrics file format.
pub const METRICS_SCHEMA: u32 = 1;

/// All metrics of one source.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct SourceMetrics {
    pub schema: u32,
    /// Start of counting, in milliseconds since the epoch; `None` if it was not recorded.
    #[serde(rename = "since")]
    pub counting_since: Option<i64>,
    /// Time of the last write, in milliseconds since the epoch.
    pub written_at: i64,
    pub requests: RequestMetrics,
    pub items: ItemMetrics,
    #[serde(rename = "course")]
    pub lifecycle: LifecycleCounters,
    /// Results of the last attempts to fetch something from the source.
    #[serde(rename = "attempts")]
    pub recent_outcomes: RecentOutcomes,
    #[serde(rename = "client")]
    pub connection: ConnectionMetrics,
    /// Counts of the proxies that the source uses; `None` without a proxy pool.
    pub proxies: Option<ProxyMetrics>,
}

/// Metrics of HTTP requests. Quick retries and redirects count as requests; a request that was
/// cancelled because the worker stopped or restarted the phase does not.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct RequestMetrics {
    #[serde(rename = "by_class")]
    pub by_outcome: OutcomeCounts,
    /// Requests that repeat one that failed a moment before.
    pub retries: u64,
    /// Bytes of complete response bodies.
    pub bytes_received: u64,
    /// From sending a request to the head of its response; requests without one are excluded.
    #[serde(rename = "duration")]
    pub latency: Histogram,
    /// Latency in the last minutes.
    #[serde(rename = "recent")]
    pub recent_latency: RollingHistogram,
}

/// Metrics of items, and of the documents they consist of.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct ItemMetrics {
    pub listed: u64,
    pub stored: u64,
    pub gone: u64,
    pub quarantined: u64,
    pub documents_stored: u64,
    /// Bytes of durable documents.
    pub bytes_stored: u64,
    /// Failed attempts that were charged to an item.
    pub failed_attempts: u64,
    /// From the first request for an item to the last response.
    #[serde(rename = "duration")]
    pub fetch_duration: Histogram,
    /// Time to make a batch durable.
    #[serde(rename = "commit")]
    pub commit_duration: Histogram,
}

/// Counters of starts, restarts, sessions, errors and waits.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default)]
pub struct LifecycleCounters {
    /// Times that the worker started the source, whatever ended the previous run.
    pub starts: u64,
    /// Restarts that the worker requested.
    pub restarts: u64,
    pub sessions_completed: u64,
    /// Failures of a session, not of items.
    pub errors: u64,
    /// Waits that began, by reason.
    pub rate_limit_waits: u64,
    pub error_waits: u64,
    pub auth_waits: u64,
}

/// Item totals, as the ledger counts them.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct ItemTotals {
    pub listed: u64,
    pub stored: u64,
    pub gone: u64,
    pub quarantined: u64,
}

impl SourceMetrics {
    /// Returns empty metrics that count from `now`.
    #[must_use]
    pub fn counting_from(now: Timestamp) -> Self {
        Self { counting_since: Some(now.0), ..Self::default() }
    }

    /// Records a start of the source; clears the connection failures of the previous run.
    pub fn record_start(&mut self) {
        add_saturating(&mut self.lifecycle.starts, 1);
        self.connection.record_response();
    }

    /// Advances the rolling window to `now`; cheap enough for every event.
    pub fn advance_to(&mut self, now: Timestamp) {
        self.requests.recent_latency.advance_to(now);
    }

    /// Records a request that received the head of a response after `latency`, and its result.
    pub fn record_response(&mut self, cause: Option<Cause>, latency: Duration) {
        self.requests.by_outcome.record(RequestOutcome::from_cause(cause));
        self.requests.latency.record(latency);
        self.requests.recent_latency.record(latency);
        self.connection.record_response();
    }

    /// Records a request without a response. `reconnects_before` is the number of reconnects when
    /// its client was created. Returns the consequence for this client.
    pub fn record_no_response(
        &mut self,
        cause: Cause,
        reconnects_before: u64,
    ) -> ReconnectDecision {
        self.requests.by_outcome.record(RequestOutcome::from_cause(Some(cause)));
        self.connection.record_failure(reconnects_before)
    }

    /// Records the result of an attempt to fetch something from the source.
    pub fn record_attempt(&mut self, cause: Option<Cause>) {
        if let Some(success) = recent_outcomes::counts_as_success(cause) {
            self.recent_outcomes.record(success);
        }
    }

    /// Adds the increase of the ledger's totals from `before` to `now`. A settled item to which a
    /// document is added becomes open, and counts a second time when it is settled again.
    pub fn record_item_totals(&mut self, before: ItemTotals, now: ItemTotals) {
        let items = &mut self.items;
        add_saturating(&mut items.listed, now.listed.saturating_sub(before.listed));
        add_saturating(&mut items.stored, now.stored.saturating_sub(before.stored));
        add_saturating(&mut items.gone, now.gone.saturating_sub(before.gone));
        add_saturating(&mut items.quarantined, now.quarantined.saturating_sub(before.quarantined));
    }

    /// Records a change of the source's state.
    pub fn record_status(&mut self, status: Status) {
        match status {
            Status::RateLimited => add_saturating(&mut self.lifecycle.rate_limit_waits, 1),
            Status::Error => add_saturating(&mut self.lifecycle.error_waits, 1),
            Status::AuthFailed => add_saturating(&mut self.lifecycle.auth_waits, 1),
            Status::Idle | Status::Collecting | Status::Downloading | Status::Completed => {}
        }
    }

    /// Returns the share of the last attempts that succeeded; `None` before the first.
    #[must_use]
    pub fn success_rate(&self) -> Option<f64> {
        self.recent_outcomes.success_rate()
    }

    /// Returns the 95th percentile of the latency in the last minutes; `None` without requests.
    #[must_use]
    pub fn p95_latency(&self, now: Timestamp) -> Option<Duration> {
        self.requests.recent_latency.merged(now).quantile(0.95)
    }
}

/// Adds to a counter, saturating because a file can hold any number.
pub fn add_saturating(counter: &mut u64, by: u64) {
    *counter = counter.saturating_add(by);
}
