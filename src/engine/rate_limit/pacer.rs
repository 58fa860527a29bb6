//! Evenly spaced requests: the generic cell rate algorithm (virtual scheduling, ITU-T I.371) with a burst of one.

use crate::engine::rate_limit::Rate;
use crate::engine::{ClockStep, Timestamp};

/// How late a timer may fire, in microseconds; also less than half an interval, so that what is made
/// up for is never a whole request.
const TIMER_LATENESS_MAX_MICROS: i128 = 50_000;

/// The theoretical arrival time of the next unit, in microseconds, since milliseconds are too
/// coarse above a thousand per second.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Pacer {
    due_micros: i128,
}

impl Pacer {
    /// Returns when the next request may go, if not now.
    pub(super) fn wait_until(&self, now: Timestamp) -> Option<Timestamp> {
        // What is due within this millisecond may go: the clock cannot tell its parts.
        let end = (i128::from(now.0) + 1) * 1000;
        (self.due_micros >= end).then(|| self.due_at())
    }

    pub(super) fn restore(due: Timestamp) -> Self {
        Self { due_micros: i128::from(due.0) * 1000 }
    }

    /// Returns when the next unit is due.
    pub(super) fn due_at(&self) -> Timestamp {
        Timestamp(i64::try_from(self.due_micros / 1000).unwrap_or(i64::MAX))
    }

    /// The clock was set: what is due is as far away as it was.
    pub(super) fn shift_by(&mut self, step: ClockStep) {
        self.due_micros = self.due_micros.saturating_add(i128::from(step.millis()) * 1000);
    }

    /// Begins anew: the next unit is due an interval from now.
    pub(super) fn restart(&mut self, rate: Rate, now: Timestamp) {
        self.due_micros = i128::from(now.0) * 1000;
        self.spend(1, rate, now);
    }

    /// Notes that a request of `weight` units goes now, at `rate`.
    pub(super) fn spend(&mut self, weight: u32, rate: Rate, now: Timestamp) {
        let interval = rate.interval().as_micros().min(1 << 100);
        let interval = i128::try_from(interval).unwrap_or(1 << 100);
        let now = i128::from(now.0) * 1000;
        // A timer that fires late costs nothing: the next request is due as if it had been in time.
        let is_late = self.due_micros + (interval / 2).min(TIMER_LATENESS_MAX_MICROS) >= now;
        let due = if is_late { self.due_micros } else { now };
        self.due_micros = due.saturating_add(i128::from(weight).saturating_mul(interval));
    }
}
