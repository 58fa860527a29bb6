//! Evenly spaced requests: the generic cell rate algorithm (virtual scheduling, ITU-T I.371) with a burst of one.

use crate::engine::quota::Rate;
use crate::engine::{ClockStep, Timestamp};

/// How late a timer may fire, in microseconds; also less than half an interval, so that what is made
/// up for is never a whole request.
const LATE_MAX: i128 = 50_000;

/// The theoretical arrival time of the next unit, in microseconds, since milliseconds are too
/// coarse above a thousand per second.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Pace {
    due: i128,
}

impl Pace {
    /// Returns when the next request may go, if not now.
    pub(super) fn wait(&self, now: Timestamp) -> Option<Timestamp> {
        // What is due within this millisecond may go: the clock cannot tell its parts.
        let end = (i128::from(now.0) + 1) * 1000;
        (self.due >= end).then(|| self.due())
    }

    pub(super) fn recall(due: Timestamp) -> Self {
        Self { due: i128::from(due.0) * 1000 }
    }

    /// Returns when the next unit is due.
    pub(super) fn due(&self) -> Timestamp {
        Timestamp(i64::try_from(self.due / 1000).unwrap_or(i64::MAX))
    }

    /// The clock was set: what is due is as far away as it was.
    pub(super) fn move_by(&mut self, step: ClockStep) {
        self.due = self.due.saturating_add(i128::from(step.millis()) * 1000);
    }

    /// Begins anew: the next unit is due an interval from now.
    pub(super) fn restart(&mut self, rate: Rate, now: Timestamp) {
        self.due = i128::from(now.0) * 1000;
        self.spend(1, rate, now);
    }

    /// Notes that a request of `weight` units goes now, at `rate`.
    pub(super) fn spend(&mut self, weight: u32, rate: Rate, now: Timestamp) {
        let interval = rate.interval().as_micros().min(1 << 100);
        let interval = i128::try_from(interval).unwrap_or(1 << 100);
        let now = i128::from(now.0) * 1000;
        // A timer that fires late costs nothing: the next request is due as if it had been in time.
        let is_late = self.due + (interval / 2).min(LATE_MAX) >= now;
        let due = if is_late { self.due } else { now };
        self.due = due.saturating_add(i128::from(weight).saturating_mul(interval));
    }
}
