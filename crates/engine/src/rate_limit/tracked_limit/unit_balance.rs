//! Balance of the units of a limit: what the last response left, and what was spent since.

use std::time::Duration;

use crate::Timestamp;
use crate::rate_limit::rate::Rate;
use crate::rate_limit::response_context::ResponseContext;
use crate::rate_limit::tracked_limit::bucket_level::BucketLevel;

/// Units that may still be sent, by the last response and what was sent since.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct UnitBalance {
    pub(super) available: f64,
    /// Units that a whole window leaves us. A request that needs more is sent when all of them are
    /// available.
    pub(super) capacity: f64,
    /// Units sent since the last response was read.
    spent_since_read: f64,
    pub(super) read_at: Timestamp,
    bucket_level: BucketLevel,
}

impl UnitBalance {
    /// Creates the balance of a limit that has named no number of units yet.
    pub(super) fn new(now: Timestamp) -> Self {
        Self {
            available: f64::INFINITY,
            capacity: f64::INFINITY,
            spent_since_read: 0.0,
            read_at: now,
            bucket_level: BucketLevel::new(now),
        }
    }

    /// Records that units are sent.
    pub(super) fn spend(&mut self, units: f64) {
        self.available -= units;
        self.bucket_level.spend(units);
        self.spent_since_read += units;
    }

    /// Records that a response was read.
    pub(super) fn record_read(&mut self, now: Timestamp) {
        self.read_at = now;
        self.spent_since_read = 0.0;
    }

    /// Returns true if nothing was sent since the last response was read.
    pub(super) fn is_unspent(&self) -> bool {
        self.spent_since_read == 0.0
    }

    /// Corrects the level of the token bucket by a response, with the refill rate of the bucket.
    pub(super) fn update_level(&mut self, rate: Rate, context: &ResponseContext) {
        self.bucket_level.update(self.available, rate, self.capacity, context);
    }

    /// Returns the time at which a token bucket with this refill rate holds `units`.
    pub(super) fn level_reaches_at(&self, units: f64, rate: Rate, now: Timestamp) -> Timestamp {
        self.bucket_level.reaches_at(units, rate, self.capacity, now)
    }

    /// Returns the time since the last response was read.
    pub(super) fn age(&self, now: Timestamp) -> Duration {
        now.since(self.read_at)
    }
}
