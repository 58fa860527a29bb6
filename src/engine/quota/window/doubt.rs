//! Finds out what a small figure counts, seconds or milliseconds, where nothing but the figure says so.

use crate::engine::Timestamp;
use crate::engine::quota::ResetMeaning;

/// Milliseconds fall by about a thousand a second, and requests between move the reset a little.
const MILLIS_SLOPE: std::ops::RangeInclusive<f64> = 500.0..=2000.0;

/// Whole seconds fall by one a second, give or take the rounding. What stands still says nothing.
const SECONDS_SLOPE: std::ops::RangeInclusive<f64> = 0.3..=3.0;

/// A slope is looked at after this many seconds, as milliseconds and as whole seconds.
const SPANS: (f64, f64) = (0.1, 2.0);

/// After so many seconds the measurement begins anew.
const SPAN_MAX: f64 = 30.0;

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Doubt {
    pub(super) since: Timestamp,
    figure: f64,
    pub(super) settled: Option<ResetMeaning>,
}

impl Doubt {
    pub(super) fn new(figure: f64, now: Timestamp) -> Self {
        Self { since: now, figure, settled: None }
    }

    /// Looks at a later figure. `is_due`: the reset has come, so that a leap is no wonder.
    pub(super) fn see(&mut self, figure: f64, is_due: bool, now: Timestamp) {
        let fallen = self.figure - figure;
        let passed = now.since(self.since).as_secs_f64();
        let slope = fallen / passed.max(0.001);
        if fallen < 0.0 || passed > SPAN_MAX {
            let leapt = figure > (self.figure * 100.0).max(1000.0);
            let settled = self.settled.filter(|_| !leapt || is_due);
            *self = Self { settled, ..Self::new(figure, now) };
        } else if passed >= SPANS.0 && MILLIS_SLOPE.contains(&slope) {
            self.settled = Some(ResetMeaning::DeltaMillis);
        } else if passed >= SPANS.1 && SECONDS_SLOPE.contains(&slope) {
            self.settled = Some(ResetMeaning::DeltaSeconds);
        }
    }

    /// Compares a figure with the seconds in which everything comes back.
    pub(super) fn compare(&mut self, figure: f64, whole: f64) {
        if self.settled.is_none() && figure > 10.0 * whole.max(1.0) {
            self.settled = Some(ResetMeaning::DeltaMillis);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slope_tells_milliseconds_from_seconds() {
        for (figures, meaning) in [
            ([60_000.0, 59_500.0, 58_000.0], ResetMeaning::DeltaMillis),
            ([60.0, 60.0, 58.0], ResetMeaning::DeltaSeconds),
        ] {
            let mut doubt = Doubt::new(figures[0], Timestamp(0));
            doubt.see(figures[1], false, Timestamp(500));
            doubt.see(figures[2], false, Timestamp(2_000));
            assert_eq!(doubt.settled, Some(meaning));
        }
    }

    #[test]
    fn a_unit_that_changes_in_mid_run_is_doubted_again() {
        let mut doubt = Doubt::new(60.0, Timestamp(0));
        doubt.see(57.0, false, Timestamp(3_000));
        assert_eq!(doubt.settled, Some(ResetMeaning::DeltaSeconds));

        doubt.see(56_900.0, false, Timestamp(3_100));
        assert_eq!(doubt.settled, None);
        doubt.see(56_700.0, false, Timestamp(3_300));
        assert_eq!(doubt.settled, Some(ResetMeaning::DeltaMillis));
    }
}
