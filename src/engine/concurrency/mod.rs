//! How many requests may be in flight at once, beside the rate: the controller of what a server can bear.
//!
//! Three things bound the number. Little's law (1961): at a given rate no more requests can be under
//! way than rate × latency, so more places would only be used in bursts. Growing latency: a server that
//! takes longer than its load explains is given less, the idea of the gradient in Netflix's
//! concurrency-limits. And failures under load, 5xx and timeouts: additive increase, multiplicative decrease
//! (Chiu and Jain 1989), with the factor of CUBIC (RFC 9438 §4.6), and as much of it as requests failed of
//! late, as DCTCP does (RFC 8257 §3.3): a server under load fails many, and a few bad documents fail a few.

mod latency;
#[cfg(test)]
mod proptests;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use self::latency::{LatencyByConcurrency, LatencyVerdict};
use crate::engine::Timestamp;

/// Factor for the number in force after a sign of overload, when every recent request failed: β of
/// CUBIC.
const DECREASE_FACTOR: f64 = 0.7;

/// Recent requests whose share of failures scales the decrease: few enough that an overload shows within
/// a few rounds, and enough that one bad document in ten hardly does.
const RECENT_OUTCOMES_LEN: usize = 20;

/// Growth for each good window of latencies, in requests.
const INCREASE_STEP: f64 = 1.0;

/// Places beyond rate × latency, so that an answer that is late now and then leaves none empty.
const SPARE_SLOTS: f64 = 2.0;

/// A number learned longer ago says nothing of the server as it is now.
const STATE_AGE_MAX: Duration = Duration::from_secs(3600);

/// What the end of one request says of the server's load.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum LoadSignal {
    /// It did what was asked, in this time.
    Completed(LatencySample),
    /// A 5xx or a timeout.
    Overloaded,
    /// The same, of an item that failed before while others succeeded: neither was a sign of load.
    ItemSpecificFailure,
    /// A 429, which is the rate's affair, or another 4xx, which costs the server nothing.
    Neutral,
}

/// How long an answer took, and beside how many others.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct LatencySample {
    /// From the request to the first byte of the answer, which does not depend on a document's size.
    pub time_to_first_byte: Duration,
    /// From the request to the last byte: the time its place was taken.
    pub total: Duration,
    /// The requests in flight when it was sent, itself included.
    pub in_flight: u32,
}

/// The controller of one scope. Requests of one scope should be alike: latencies of slow and of fast
/// routes are no measure of each other.
#[derive(Clone, Debug, PartialEq)]
pub struct ConcurrencyLimiter {
    configured_limit: u32,
    /// In `1.0..=limit`; it grows by less than a whole request at a time.
    current_limit: f64,
    /// Requests sent before this saw the load that has been answered to already.
    decreased_at: Option<Timestamp>,
    /// The outcomes of the last requests, the newest last: true is a failure.
    recent_failures: VecDeque<bool>,
    latencies: LatencyByConcurrency,
}

/// What outlives the process.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct ConcurrencyState {
    #[serde(rename = "in_force")]
    pub current_limit: f64,
    /// When, in milliseconds since the Unix epoch.
    #[serde(rename = "at")]
    pub saved_at: i64,
}

impl ConcurrencyLimiter {
    /// Starts at the configured limit, which is a person's judgement of the server.
    #[must_use]
    pub fn new(limit: u32) -> Self {
        let limit = limit.max(1);
        Self {
            configured_limit: limit,
            current_limit: f64::from(limit),
            decreased_at: None,
            recent_failures: VecDeque::new(),
            latencies: LatencyByConcurrency::default(),
        }
    }

    /// Starts where another process stood, so that a restart does not fall upon a server in trouble.
    #[must_use]
    pub fn restore(limit: u32, memory: &ConcurrencyState, now: Timestamp) -> Self {
        let mut fresh = Self::new(limit);
        let is_young = now.since(Timestamp(memory.saved_at)) <= STATE_AGE_MAX;
        if is_young && memory.current_limit >= 1.0 {
            fresh.current_limit = memory.current_limit.min(fresh.current_limit);
        }
        fresh
    }

    #[must_use]
    pub fn to_state(&self, now: Timestamp) -> ConcurrencyState {
        ConcurrencyState { current_limit: self.current_limit, saved_at: now.0 }
    }

    /// Returns how many requests may be in flight: at least 1, at most the configured limit.
    ///
    /// `per_second` is the rate of requests (not of units) in force, where there is one.
    #[must_use]
    pub fn limit(&self, per_second: Option<f64>) -> u32 {
        let useful =
            per_second.zip(self.latencies.total_p90()).map_or(f64::INFINITY, |(rate, whole)| {
                (rate * whole.as_secs_f64()).ceil() + SPARE_SLOTS
            });
        to_slots(self.current_limit.min(useful)).clamp(1, self.configured_limit)
    }

    /// Notes how a request sent at `sent` ended.
    pub fn record_result(&mut self, sent: Timestamp, health: LoadSignal, now: Timestamp) {
        match health {
            LoadSignal::Neutral => {}
            // Gives back what its first failure took.
            LoadSignal::ItemSpecificFailure => {
                self.current_limit = (self.current_limit / self.decrease_factor())
                    .min(f64::from(self.configured_limit));
            }
            LoadSignal::Overloaded => {
                self.record_outcome(true);
                self.decrease(self.decrease_factor(), sent, now);
            }
            LoadSignal::Completed(taken) => {
                self.record_outcome(false);
                self.on_completed(taken, sent, now);
            }
        }
    }

    fn on_completed(&mut self, taken: LatencySample, sent: Timestamp, now: Timestamp) {
        match self.latencies.record(taken, now) {
            Some(LatencyVerdict::Slow { allowed_ratio: share }) => {
                self.decrease(share.max(DECREASE_FACTOR), sent, now)
            }
            // Only what was used has shown that it can be borne.
            Some(LatencyVerdict::Acceptable { in_flight })
                if f64::from(in_flight) * 2.0 >= self.current_limit.floor() =>
            {
                self.current_limit =
                    (self.current_limit + INCREASE_STEP).min(f64::from(self.configured_limit));
            }
            Some(LatencyVerdict::Acceptable { .. }) | None => {}
        }
    }

    fn record_outcome(&mut self, has_failed: bool) {
        if self.recent_failures.len() == RECENT_OUTCOMES_LEN {
            self.recent_failures.pop_front();
        }
        self.recent_failures.push_back(has_failed);
    }

    /// The factor for the number in force after a failure, by the share of recent requests that failed.
    fn decrease_factor(&self) -> f64 {
        let failed = self.recent_failures.iter().filter(|failed| **failed).count();
        let share = failed as f64 / self.recent_failures.len().max(1) as f64;
        1.0 - (1.0 - DECREASE_FACTOR) * share
    }

    /// Gives back part of the places, once for all requests that were under way together.
    fn decrease(&mut self, share: f64, sent: Timestamp, now: Timestamp) {
        if self.decreased_at.is_none_or(|at| sent > at) {
            self.current_limit = (self.current_limit * share).max(1.0);
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
