//! Detects whether a small reset value is in seconds or milliseconds, if nothing else says so.

use crate::Timestamp;
use crate::rate_limit::reported_limits::ResetMeaning;

/// Milliseconds fall by about 1,000 per second, and requests in between move the reset a little.
const MILLIS_SLOPE: std::ops::RangeInclusive<f64> = 500.0..=2000.0;

/// Whole seconds fall by one per second, give or take the rounding. A constant value says nothing.
const SECONDS_SLOPE: std::ops::RangeInclusive<f64> = 0.3..=3.0;

/// Minimum observation in seconds for a slope in milliseconds and in whole seconds.
const SLOPE_SPANS_SECS: (f64, f64) = (0.1, 2.0);

/// Maximum observation in seconds; then the measurement restarts.
const SLOPE_SPAN_MAX_SECS: f64 = 30.0;

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct ResetUnitDetector {
    pub(super) started_at: Timestamp,
    first_value: f64,
    pub(super) detected: Option<ResetMeaning>,
}

impl ResetUnitDetector {
    pub(super) fn new(value: f64, now: Timestamp) -> Self {
        Self { started_at: now, first_value: value, detected: None }
    }

    /// Observes a later value. `is_due`: the reset has come, so that a jump is expected.
    pub(super) fn observe(&mut self, value: f64, is_due: bool, now: Timestamp) {
        let decrease = self.first_value - value;
        let elapsed = now.since(self.started_at).as_secs_f64();
        let slope = decrease / elapsed.max(0.001);
        if decrease < 0.0 || elapsed > SLOPE_SPAN_MAX_SECS {
            let has_jumped = value > (self.first_value * 100.0).max(1000.0);
            let detected = self.detected.filter(|_| !has_jumped || is_due);
            *self = Self { detected, ..Self::new(value, now) };
        } else if elapsed >= SLOPE_SPANS_SECS.0 && MILLIS_SLOPE.contains(&slope) {
            self.detected = Some(ResetMeaning::DeltaMillis);
        } else if elapsed >= SLOPE_SPANS_SECS.1 && SECONDS_SLOPE.contains(&slope) {
            self.detected = Some(ResetMeaning::DeltaSeconds);
        }
    }

    /// Compares a value with the seconds until all units are back.
    pub(super) fn compare_with_full_refill(&mut self, value: f64, full_refill_secs: f64) {
        if self.detected.is_none() && value > 10.0 * full_refill_secs.max(1.0) {
            self.detected = Some(ResetMeaning::DeltaMillis);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slope_tells_milliseconds_from_seconds() {
        for (values, meaning) in [
            ([60_000.0, 59_500.0, 58_000.0], ResetMeaning::DeltaMillis),
            ([60.0, 60.0, 58.0], ResetMeaning::DeltaSeconds),
        ] {
            let mut detector = ResetUnitDetector::new(values[0], Timestamp(0));
            detector.observe(values[1], false, Timestamp(500));
            detector.observe(values[2], false, Timestamp(2_000));
            assert_eq!(detector.detected, Some(meaning));
        }
    }

    #[test]
    fn a_unit_that_changes_is_detected_again() {
        let mut detector = ResetUnitDetector::new(60.0, Timestamp(0));
        detector.observe(57.0, false, Timestamp(3_000));
        assert_eq!(detector.detected, Some(ResetMeaning::DeltaSeconds));

        detector.observe(56_900.0, false, Timestamp(3_100));
        assert_eq!(detector.detected, None);
        detector.observe(56_700.0, false, Timestamp(3_300));
        assert_eq!(detector.detected, Some(ResetMeaning::DeltaMillis));
    }
}
