//! Pacer: spaces requests evenly by the generic cell rate algorithm (virtual scheduling, ITU-T
//! I.371), with a burst of one.

use crate::rate_limit::rate::Rate;
use crate::{ClockStep, Timestamp};

/// Maximum lateness of a timer that is made up for, in microseconds. It is also limited to half an
/// interval, so that no whole request is made up for.
const TIMER_LATENESS_MAX_MICROS: i128 = 50_000;

#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Pacer {
    /// Theoretical arrival time of the next unit, in microseconds, because milliseconds are too
    /// coarse above 1,000 units per second.
    due_micros: i128,
}

impl Pacer {
    /// Returns the time at which the next request may be sent, if not now.
    pub(super) fn wait_until(&self, now: Timestamp) -> Option<Timestamp> {
        // A unit due within this millisecond may be sent: the clock is no more precise.
        let end_of_milli = (i128::from(now.0) + 1) * 1000;
        (self.due_micros >= end_of_milli).then(|| self.due_at())
    }

    pub(super) fn restore(due_at: Timestamp) -> Self {
        Self { due_micros: i128::from(due_at.0) * 1000 }
    }

    /// Returns the time at which the next unit is due.
    pub(super) fn due_at(&self) -> Timestamp {
        Timestamp(i64::try_from(self.due_micros / 1000).unwrap_or(i64::MAX))
    }

    /// Shifts the due time by a clock step, so that the remaining time stays the same.
    pub(super) fn shift_by(&mut self, step: ClockStep) {
        self.due_micros = self.due_micros.saturating_add(i128::from(step.millis()) * 1000);
    }

    /// Restarts the schedule: the next unit is due one interval from now.
    pub(super) fn restart(&mut self, rate: Rate, now: Timestamp) {
        self.due_micros = i128::from(now.0) * 1000;
        self.spend(1, rate, now);
    }

    /// Records that a request of `weight` units is sent now, at `rate`.
    pub(super) fn spend(&mut self, weight: u32, rate: Rate, now: Timestamp) {
        let interval = rate.interval().as_micros().min(1 << 100);
        let interval = i128::try_from(interval).unwrap_or(1 << 100);
        let now = i128::from(now.0) * 1000;
        // A timer that fires late costs nothing: the next request is due as if it had fired on
        // time.
        let is_on_schedule = self.due_micros + (interval / 2).min(TIMER_LATENESS_MAX_MICROS) >= now;
        let due = if is_on_schedule { self.due_micros } else { now };
        self.due_micros = due.saturating_add(i128::from(weight).saturating_mul(interval));
    }
}
