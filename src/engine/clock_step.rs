//! That the wall clock was set, and by how much.
//!
//! The moment at which the machine was started, reckoned by the wall clock and by a clock that
//! nobody can set, is always the same one, unless the wall clock was set in between.

use std::fmt;
use std::time::Duration;

use crate::engine::{Timestamp, format_duration};

/// Clocks are put right all the time by less than this; a leap second is half of it.
const STEP_MIN: Duration = Duration::from_secs(2);

/// A moment, and the clock that it is of: another one than before where that was set.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct ClockReading {
    pub wall: Timestamp,
    /// When the machine was started, by that clock.
    pub booted_at: Timestamp,
}

impl ClockReading {
    /// Returns the time `wait` later, by the same clock.
    #[must_use]
    pub fn after(self, wait: Duration) -> Self {
        Self { wall: self.wall.after(wait), ..self }
    }

    /// How long it is until then; `None` where that is past, and where the clock was set, so that
    /// nobody knows by this moment alone.
    #[must_use]
    pub fn remaining(self, now: Self) -> Option<Duration> {
        let left = self.wall.since(now.wall);
        let is_known = ClockStep::between(self.booted_at, now.booted_at).is_none();
        (is_known && !left.is_zero()).then_some(left)
    }
}

/// By how much the wall clock was set: what lies ahead is as far away as before, at another moment.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ClockStep {
    /// Forward; back where it is negative.
    millis: i64,
}

impl ClockStep {
    /// Compares when the machine was started, by the clock as it was and as it is.
    #[must_use]
    pub fn between(before: Timestamp, now: Timestamp) -> Option<Self> {
        let step = Self { millis: now.0.saturating_sub(before.0) };
        (step.magnitude() >= STEP_MIN).then_some(step)
    }

    /// What is known of a step that nobody saw: what is written was written later than now.
    #[must_use]
    pub fn inferred_backward(written: Timestamp, now: Timestamp) -> Option<Self> {
        Self::between(written, now).filter(|step| step.millis < 0)
    }

    /// In milliseconds; negative where it leads back.
    #[must_use]
    pub fn millis(self) -> i64 {
        self.millis
    }

    fn magnitude(self) -> Duration {
        Duration::from_millis(self.millis.unsigned_abs())
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
        let told = |now| ClockStep::between(BOOT, now).map(|step| step.to_string());

        assert_eq!(told(BOOT), None);
        assert_eq!(told(BOOT.after(Duration::from_millis(1999))), None);
        assert_eq!(told(BOOT.after(DAY)), Some("1 d forward".to_owned()));
        assert_eq!(told(BOOT.before(DAY)), Some("1 d back".to_owned()));
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
