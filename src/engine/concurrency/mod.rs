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
mod laws;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use self::latency::{Judgement, Latencies};
use crate::engine::Timestamp;

/// Factor for the number in force after a sign of overload, when every recent request failed: β of
/// CUBIC.
const DECREASE: f64 = 0.7;

/// Recent requests whose share of failures scales the decrease: few enough that an overload shows within
/// a few rounds, and enough that one bad document in ten hardly does.
const RECENT_LEN: usize = 20;

/// Growth for each good window of latencies, in requests.
const INCREASE: f64 = 1.0;

/// Places beyond rate × latency, so that an answer that is late now and then leaves none empty.
const SPARE: f64 = 2.0;

/// A number learned longer ago says nothing of the server as it is now.
const MEMORY_AGE_MAX: Duration = Duration::from_secs(3600);

/// What the end of one request says of the server's load.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Health {
    /// It did what was asked, in this time.
    Good(Taken),
    /// A 5xx or a timeout.
    Overloaded,
    /// The same, of an item that failed before while others succeeded: neither was a sign of load.
    Borne,
    /// A 429, which is the rate's affair, or another 4xx, which costs the server nothing.
    Silent,
}

/// How long an answer took, and beside how many others.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Taken {
    /// From the request to the first byte of the answer, which does not depend on a document's size.
    pub first_byte: Duration,
    /// From the request to the last byte: the time its place was taken.
    pub whole: Duration,
    /// The requests in flight when it was sent, itself included.
    pub in_flight: u32,
}

/// The controller of one scope. Requests of one scope should be alike: latencies of slow and of fast
/// routes are no measure of each other.
#[derive(Clone, Debug, PartialEq)]
pub struct Concurrency {
    limit: u32,
    /// In `1.0..=limit`; it grows by less than a whole request at a time.
    in_force: f64,
    /// Requests sent before this saw the load that has been answered to already.
    decreased_at: Option<Timestamp>,
    /// The outcomes of the last requests, the newest last: true is a failure.
    recent: VecDeque<bool>,
    latencies: Latencies,
}

/// What outlives the process.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct ConcurrencyMemory {
    pub in_force: f64,
    /// When, in milliseconds since the Unix epoch.
    pub at: i64,
}

impl Concurrency {
    /// Starts at the configured limit, which is a person's judgement of the server.
    #[must_use]
    pub fn new(limit: u32) -> Self {
        let limit = limit.max(1);
        Self {
            limit,
            in_force: f64::from(limit),
            decreased_at: None,
            recent: VecDeque::new(),
            latencies: Latencies::default(),
        }
    }

    /// Starts where another process stood, so that a restart does not fall upon a server in trouble.
    #[must_use]
    pub fn recall(limit: u32, memory: &ConcurrencyMemory, now: Timestamp) -> Self {
        let mut fresh = Self::new(limit);
        let is_young = now.since(Timestamp(memory.at)) <= MEMORY_AGE_MAX;
        if is_young && memory.in_force >= 1.0 {
            fresh.in_force = memory.in_force.min(fresh.in_force);
        }
        fresh
    }

    #[must_use]
    pub fn memory(&self, now: Timestamp) -> ConcurrencyMemory {
        ConcurrencyMemory { in_force: self.in_force, at: now.0 }
    }

    /// Returns how many requests may be in flight: at least 1, at most the configured limit.
    ///
    /// `per_second` is the rate of requests (not of units) in force, where there is one.
    #[must_use]
    pub fn limit(&self, per_second: Option<f64>) -> u32 {
        let useful = per_second
            .zip(self.latencies.whole_p90())
            .map_or(f64::INFINITY, |(rate, whole)| (rate * whole.as_secs_f64()).ceil() + SPARE);
        places(self.in_force.min(useful)).clamp(1, self.limit)
    }

    /// Notes how a request sent at `sent` ended.
    pub fn answered(&mut self, sent: Timestamp, health: Health, now: Timestamp) {
        match health {
            Health::Silent => {}
            // Gives back what its first failure took.
            Health::Borne => {
                self.in_force = (self.in_force / self.decrease_factor()).min(f64::from(self.limit));
            }
            Health::Overloaded => {
                self.note(true);
                self.decrease(self.decrease_factor(), sent, now);
            }
            Health::Good(taken) => {
                self.note(false);
                self.good(taken, sent, now);
            }
        }
    }

    fn good(&mut self, taken: Taken, sent: Timestamp, now: Timestamp) {
        match self.latencies.note(taken, now) {
            Some(Judgement::Slow { share }) => self.decrease(share.max(DECREASE), sent, now),
            // Only what was used has shown that it can be borne.
            Some(Judgement::Fine { in_flight })
                if f64::from(in_flight) * 2.0 >= self.in_force.floor() =>
            {
                self.in_force = (self.in_force + INCREASE).min(f64::from(self.limit));
            }
            Some(Judgement::Fine { .. }) | None => {}
        }
    }

    fn note(&mut self, has_failed: bool) {
        if self.recent.len() == RECENT_LEN {
            self.recent.pop_front();
        }
        self.recent.push_back(has_failed);
    }

    /// The factor for the number in force after a failure, by the share of recent requests that failed.
    fn decrease_factor(&self) -> f64 {
        let failed = self.recent.iter().filter(|failed| **failed).count();
        let share = failed as f64 / self.recent.len().max(1) as f64;
        1.0 - (1.0 - DECREASE) * share
    }

    /// Gives back part of the places, once for all requests that were under way together.
    fn decrease(&mut self, share: f64, sent: Timestamp, now: Timestamp) {
        if self.decreased_at.is_none_or(|at| sent > at) {
            self.in_force = (self.in_force * share).max(1.0);
            self.decreased_at = Some(now);
        }
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the cast saturates at both ends, and rounds down as is wanted"
)]
fn places(number: f64) -> u32 {
    number as u32
}
