//! Measured refill rate of a limit with continuous refill.

use std::time::Duration;

use crate::Timestamp;
use crate::rate_limit::rate::Rate;
use crate::rate_limit::response_context::ResponseContext;

/// Minimum span of a measurement.
const MEASURE_SPAN_MIN: Duration = Duration::from_secs(5);

/// Minimum span of the first measurement, which is needed soon and may be rough.
const FIRST_MEASURE_SPAN_MIN: Duration = Duration::from_secs(1);

/// Weight of a new measurement in the exponential average.
const SMOOTHING_FACTOR: f64 = 0.3;

/// While more than this share remains, the measured refill is no more than what was spent.
const NEARLY_FULL_SHARE: f64 = 0.5;

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct RefillRate {
    rate: Option<Rate>,
    /// Start of the measurement.
    measured_since: Timestamp,
    remaining: f64,
    accepted_units: f64,
    /// Units spent without any refill.
    pub(super) units_without_refill: f64,
    /// True if the measurement is useless, because a part of it was idle.
    is_invalid: bool,
}

impl RefillRate {
    pub(super) fn new(remaining: f64, context: &ResponseContext) -> Self {
        Self {
            rate: None,
            measured_since: context.now,
            remaining,
            accepted_units: context.accepted_units,
            units_without_refill: 0.0,
            is_invalid: false,
        }
    }

    pub(super) fn rate(&self) -> Option<Rate> {
        self.rate
    }

    /// Invalidates the measurement after an idle time: a limit that had long been full seems to
    /// refill slowly.
    pub(super) fn exclude_idle(&mut self) {
        self.is_invalid = true;
    }

    pub(super) fn reset(&mut self) {
        self.rate = None;
    }

    /// Measures the refill: the units accepted since the last measurement, plus the increase of the
    /// remaining units.
    pub(super) fn measure(
        &mut self,
        remaining: f64,
        quota: Option<f64>,
        may_be_continuous: bool,
        context: &ResponseContext,
    ) {
        let restarted = Self { rate: self.rate, ..Self::new(remaining, context) };
        if !context.is_accepted || !may_be_continuous || self.is_invalid {
            *self = restarted;
            return;
        }
        let elapsed = context.now.since(self.measured_since);
        if elapsed < if self.rate.is_none() { FIRST_MEASURE_SPAN_MIN } else { MEASURE_SPAN_MIN } {
            return;
        }
        let used = context.accepted_units - self.accepted_units;
        let refilled = used + remaining - self.remaining;
        let units_without_refill = self.units_without_refill + used;
        *self = restarted;
        if refilled <= 0.0 {
            self.units_without_refill = units_without_refill;
            return;
        }
        let measured = Rate::from_units(refilled, elapsed);
        let is_nearly_full = quota.is_some_and(|quota| remaining > NEARLY_FULL_SHARE * quota);
        self.rate = Some(match self.rate {
            Some(rate) if is_nearly_full => rate.max(measured),
            Some(rate) => Rate::per_second(
                rate.get() * (1.0 - SMOOTHING_FACTOR) + measured.get() * SMOOTHING_FACTOR,
            ),
            None => measured,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn context_after(seconds: u64, accepted: f64) -> ResponseContext {
        let now = Timestamp(0).after(Duration::from_secs(seconds));
        ResponseContext {
            sent_at: now,
            in_flight: 0.0,
            accepted_units: accepted,
            is_accepted: true,
            reserve: 0.0,
            now,
        }
    }

    /// FAULTS 52: nothing ran for a night while the limit was full.
    #[test]
    fn a_limit_full_all_night_is_not_measured_as_slow() {
        let mut refill = RefillRate::new(50.0, &context_after(0, 0.0));

        refill.exclude_idle();
        refill.measure(99.0, Some(100.0), true, &context_after(8 * 3600, 1.0));
        assert_eq!(refill.rate(), None);

        refill.measure(99.0, Some(100.0), true, &context_after(8 * 3600 + 10, 101.0));
        assert_eq!(refill.rate(), Some(Rate::per_second(10.0)));
    }
}
