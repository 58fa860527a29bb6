//! Detection of steps of the wall clock, and of their size.
//!
//! The boot time of the machine, computed from the wall clock and from a clock that cannot be set,
//! stays the same unless the wall clock was set in between.

use std::fmt;
use std::time::Duration;

use crate::{Timestamp, format_duration};

/// Smallest step that counts. Smaller corrections are normal; a leap second is half of it.
const STEP_MIN: Duration = Duration::from_secs(2);

/// Reading of the wall clock, and the boot time by that clock, which changes when the clock is set.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct ClockReading {
    pub wall: Timestamp,
    /// Boot time of the machine, by the wall clock.
    pub booted_at: Timestamp,
}

impl ClockReading {
    /// Returns the reading `wait` later, by the same clock.
    #[must_use]
    pub fn after(self, wait: Duration) -> Self {
        Self { wall: self.wall.after(wait), ..self }
    }

    /// Returns the time remaining until this reading; `None` if it has passed, or if the clock was
    /// set, because then the remaining time is unknown.
    #[must_use]
    pub fn remaining(self, now: Self) -> Option<Duration> {
        let remaining = self.wall.since(now.wall);
        let is_known = ClockStep::between(self.booted_at, now.booted_at).is_none();
        (is_known && !remaining.is_zero()).then_some(remaining)
    }
}

/// Step of the wall clock. Waits keep their length; their deadlines move by the step.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ClockStep {
    /// Positive is forward, negative is backward.
    millis: i64,
}

impl ClockStep {
    /// Returns the step between two boot times by the wall clock; `None` below 2 s.
    #[must_use]
    pub fn between(earlier: Timestamp, current: Timestamp) -> Option<Self> {
        let step = Self { millis: current.0.saturating_sub(earlier.0) };
        (step.magnitude() >= STEP_MIN).then_some(step)
    }

    /// Returns the smallest backward step that explains a time written later than `now`, for a step
    /// that was not observed.
    #[must_use]
    pub fn inferred_backward(written: Timestamp, now: Timestamp) -> Option<Self> {
        Self::between(written, now).filter(|step| step.millis < 0)
    }

    /// Returns the step in milliseconds; negative is backward.
    #[must_use]
    pub fn millis(self) -> i64 {
        self.millis
    }

    fn magnitude(self) -> Duration {
        Duration::from_millis(self.millis.unsigned_abs())
    }
}

impl Timestamp {
    /// Returns the same instant by the wall clock after this step.
    #[must_use]
    pub fn shifted_by(self, step: ClockStep) -> Self {
        Self(self.0.saturating_add(step.millis()))
    }
}

impl fmt::Display for ClockStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} {}",
            format_duration(self.magnitude()),
            if self.millis < 0 { "back" } else { "forward" }
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOOT: Timestamp = Timestamp(1_700_000_000_000);
    const DAY: Duration = Duration::from_secs(86_400);

    #[test]
    fn a_changed_boot_time_is_a_clock_step() {
        let displayed = |now| ClockStep::between(BOOT, now).map(|step| step.to_string());

        assert_eq!(displayed(BOOT), None);
        assert_eq!(displayed(BOOT.after(Duration::from_millis(1999))), None);
        assert_eq!(displayed(BOOT.after(DAY)), Some("1 d forward".to_owned()));
        assert_eq!(displayed(BOOT.before(DAY)), Some("1 d back".to_owned()));
    }

    #[test]
    fn a_clock_step_ends_a_wait() {
        let now = ClockReading { wall: BOOT.after(DAY), booted_at: BOOT };
        let end = now.after(DAY);
        let set_back = ClockReading { wall: now.wall.before(DAY), booted_at: BOOT.before(DAY) };
        let set_forward = ClockReading { wall: now.wall.after(DAY), booted_at: BOOT.after(DAY) };

        assert_eq!(end.remaining(now), Some(DAY));
        assert_eq!([end, set_back, set_forward].map(|now| end.remaining(now)), [None; 3]);
    }

    #[test]
    fn a_file_from_the_future_implies_a_backward_step() {
        assert_eq!(ClockStep::inferred_backward(BOOT, BOOT.after(DAY)), None);
        let step = ClockStep::inferred_backward(BOOT, BOOT.before(DAY)).unwrap();
        assert_eq!(BOOT.shifted_by(step), BOOT.before(DAY));
    }
}
