//! Concurrency limiter: the number of requests in flight, in addition to the rate limit.
//!
//! Three things limit the number. Little's law (1961): at a given rate, no more than rate × latency
//! requests can be in flight, so more slots would only be used in bursts. Growing latency: a server
//! that takes longer than its load explains gets fewer requests, the idea of the gradient in
//! Netflix's concurrency-limits. Failures under load (5xx and timeouts): additive increase,
//! multiplicative decrease (Chiu and Jain 1989), with the factor of CUBIC (RFC 9438 §4.6), scaled
//! by the share of recent requests that failed, as in DCTCP (RFC 8257 §3.3): an overloaded server
//! fails many requests, while a few bad documents fail a few.

mod latency;
#[cfg(test)]
mod proptests;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use self::latency::LatencySample;

use self::latency::{LatencyByConcurrency, LatencyEvaluation};
use crate::Timestamp;

/// Smallest factor for a decrease of the limit: for a failure, if every recent request failed, and
/// for any latency. β of CUBIC.
const DECREASE_FACTOR: f64 = 0.7;

/// Recent requests whose share of failures scales the decrease: few enough that an overload shows
/// within a few rounds, and enough that one bad document in ten hardly does.
const RECENT_OUTCOMES_LEN: usize = 20;

/// Growth for each acceptable window of latencies, in requests.
const INCREASE_STEP: f64 = 1.0;

/// Slots beyond rate × latency, so that an occasional late response does not lower the rate.
const SPARE_SLOTS: f64 = 2.0;

/// Longest age of a persisted limit. An older one says nothing about the current server.
const STATE_AGE_MAX: Duration = Duration::from_secs(3600);

/// Information about the server's load in the result of one request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum LoadSignal {
    /// Success, in this time.
    Completed(LatencySample),
    /// A 5xx or a timeout.
    Overloaded,
    /// A 5xx or a timeout for an item that failed before while others succeeded: neither failure
    /// was a sign of load.
    ItemSpecificFailure,
    /// A 429, which the rate limiter handles, or another 4xx, which costs the server nothing.
    Neutral,
}

/// Concurrency limiter of one scope. Requests of one scope should be alike, since latencies of slow
/// and of fast routes are not comparable.
#[derive(Clone, Debug, PartialEq)]
pub struct ConcurrencyLimiter {
    configured_limit: u32,
    /// In `1.0..=configured_limit`. It can change by less than a whole request.
    current_limit: f64,
    /// Time of the last decrease. Requests sent before it cause no further one.
    decreased_at: Option<Timestamp>,
    /// Outcomes of the last requests, the newest last: true is a failure.
    recent_outcomes: VecDeque<bool>,
    latencies: LatencyByConcurrency,
}

/// Persisted form of a [`ConcurrencyLimiter`].
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct ConcurrencyState {
    #[serde(rename = "in_force")]
    pub current_limit: f64,
    /// Time of saving, in milliseconds since the Unix epoch.
    #[serde(rename = "at")]
    pub saved_at: i64,
}

impl ConcurrencyLimiter {
    /// Starts at the configured limit, which is the user's estimate of the server.
    #[must_use]
    pub fn new(limit: u32) -> Self {
        let limit = limit.max(1);
        Self {
            configured_limit: limit,
            current_limit: f64::from(limit),
            decreased_at: None,
            recent_outcomes: VecDeque::new(),
            latencies: LatencyByConcurrency::default(),
        }
    }

    /// Restores the limit of an earlier process, so that a restart does not overload a server in
    /// trouble.
    #[must_use]
    pub fn restore(limit: u32, state: &ConcurrencyState, now: Timestamp) -> Self {
        let mut limiter = Self::new(limit);
        let is_recent = now.since(Timestamp(state.saved_at)) <= STATE_AGE_MAX;
        if is_recent && state.current_limit >= 1.0 {
            limiter.current_limit = state.current_limit.min(limiter.current_limit);
        }
        limiter
    }

    #[must_use]
    pub fn to_state(&self, now: Timestamp) -> ConcurrencyState {
        ConcurrencyState { current_limit: self.current_limit, saved_at: now.0 }
    }

    /// Returns the allowed number of requests in flight: at least 1, at most the configured limit.
    ///
    /// `per_second` is the current rate of requests (not of units), if there is one.
    #[must_use]
    pub fn limit(&self, per_second: Option<f64>) -> u32 {
        let useful_slots =
            per_second.zip(self.latencies.total_p90()).map_or(f64::INFINITY, |(rate, total)| {
                (rate * total.as_secs_f64()).ceil() + SPARE_SLOTS
            });
        to_slots(self.current_limit.min(useful_slots)).clamp(1, self.configured_limit)
    }

    /// Records the result of a request sent at `sent`.
    pub fn record_result(&mut self, sent: Timestamp, signal: LoadSignal, now: Timestamp) {
        match signal {
            LoadSignal::Neutral => {}
            // Reverts the decrease for the first failure of the item.
            LoadSignal::ItemSpecificFailure => {
                self.current_limit = (self.current_limit / self.decrease_factor())
                    .min(f64::from(self.configured_limit));
            }
            LoadSignal::Overloaded => {
                self.record_outcome(true);
                self.decrease(self.decrease_factor(), sent, now);
            }
            LoadSignal::Completed(sample) => {
                self.record_outcome(false);
                self.on_completed(sample, sent, now);
            }
        }
    }

    fn on_completed(&mut self, sample: LatencySample, sent: Timestamp, now: Timestamp) {
        match self.latencies.record(sample, now) {
            Some(LatencyEvaluation::Slow { allowed_ratio }) => {
                self.decrease(allowed_ratio.max(DECREASE_FACTOR), sent, now);
            }
            // Only a concurrency that was used is known to be acceptable.
            Some(LatencyEvaluation::Acceptable { in_flight })
                if f64::from(in_flight) * 2.0 >= self.current_limit.floor() =>
            {
                self.current_limit =
                    (self.current_limit + INCREASE_STEP).min(f64::from(self.configured_limit));
            }
            Some(LatencyEvaluation::Acceptable { .. }) | None => {}
        }
    }

    fn record_outcome(&mut self, has_failed: bool) {
        if self.recent_outcomes.len() == RECENT_OUTCOMES_LEN {
            self.recent_outcomes.pop_front();
        }
        self.recent_outcomes.push_back(has_failed);
    }

    /// Returns the factor for the current limit after a failure, by the share of recent requests
    /// that failed.
    fn decrease_factor(&self) -> f64 {
        let failed = self.recent_outcomes.iter().filter(|failed| **failed).count();
        let share = failed as f64 / self.recent_outcomes.len().max(1) as f64;
        1.0 - (1.0 - DECREASE_FACTOR) * share
    }

    /// Decreases the limit, once for all requests that were in flight together.
    fn decrease(&mut self, factor: f64, sent: Timestamp, now: Timestamp) {
        if self.decreased_at.is_none_or(|at| sent > at) {
            self.current_limit = (self.current_limit * factor).max(1.0);
            self.decreased_at = Some(now);
        }
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the cast saturates at both ends, and rounds down as is wanted"
)]
fn to_slots(number: f64) -> u32 {
    number as u32
}
