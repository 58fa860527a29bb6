//! Time series of one metric: a value for each of a fixed number of equal steps, so that its size
//! does not depend on the period that it covers.

use std::collections::VecDeque;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::Timestamp;

/// Values of a metric per step, the newest last. A step without samples has no value.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct TimeSeries {
    step_millis: i64,
    length: usize,
    /// Step of the last value, counted from the Unix epoch.
    #[serde(rename = "newest")]
    newest_step: i64,
    /// Number of samples in the newest value.
    #[serde(rename = "noted")]
    newest_sample_count: u32,
    values: VecDeque<Option<f32>>,
}

/// Aggregation of several samples in one step.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Aggregation {
    Mean,
    /// Largest sample.
    Max,
}

impl TimeSeries {
    /// Creates an empty series of `length` steps.
    #[must_use]
    pub fn new(step: Duration, length: usize) -> Self {
        let step_millis = i64::try_from(step.as_millis()).unwrap_or(i64::MAX).max(1);
        Self {
            step_millis,
            length: length.max(1),
            newest_step: 0,
            newest_sample_count: 0,
            values: VecDeque::new(),
        }
    }

    /// Records a sample. A clock that was set back by more than a step restarts the series, because
    /// the values that now lie in the future have wrong times.
    pub fn record(&mut self, sample: f32, aggregation: Aggregation, now: Timestamp) {
        let step = now.0.div_euclid(self.step_millis);
        if !sample.is_finite() {
            return;
        }
        if step < self.newest_step - 1 || self.values.is_empty() {
            self.values.clear();
            (self.newest_step, self.newest_sample_count) = (step, 0);
            self.values.push_back(None);
        }
        let ahead = step.saturating_sub(self.newest_step);
        let new_steps = usize::try_from(ahead).unwrap_or(0).min(self.length);
        if new_steps > 0 {
            self.values.extend(std::iter::repeat_n(None, new_steps));
            (self.newest_step, self.newest_sample_count) = (step, 0);
        }
        let surplus = self.values.len().saturating_sub(self.length);
        self.values.drain(..surplus);
        if let Some(newest) = self.values.back_mut() {
            *newest = Some(round_to_three_decimals(aggregate(
                *newest,
                self.newest_sample_count,
                sample,
                aggregation,
            )));
            self.newest_sample_count = self.newest_sample_count.saturating_add(1);
        }
    }

    /// Returns the duration that one value covers.
    #[must_use]
    pub fn step(&self) -> Duration {
        Duration::from_millis(self.step_millis.unsigned_abs())
    }

    /// Returns the duration that all values together cover.
    #[must_use]
    pub fn covered_duration(&self) -> Duration {
        self.step().saturating_mul(u32::try_from(self.length).unwrap_or(u32::MAX))
    }

    /// Returns one value per step, the last of them that of `now`.
    #[must_use]
    pub fn values_until(&self, now: Timestamp) -> Vec<Option<f32>> {
        let step = now.0.div_euclid(self.step_millis);
        let first = step.saturating_sub(i64::try_from(self.length).unwrap_or(i64::MAX)) + 1;
        let oldest = self.newest_step - i64::try_from(self.values.len()).unwrap_or(0) + 1;
        let value = |step: i64| {
            let index = usize::try_from(step.checked_sub(oldest)?).ok()?;
            self.values.get(index).copied().flatten()
        };
        (0_i64..).take(self.length).map(|offset| value(first + offset)).collect()
    }

    /// Returns true if both have the same step size and length. A file from another program version
    /// may differ.
    #[must_use]
    pub fn has_same_shape(&self, other: &Self) -> bool {
        (self.step_millis, self.length) == (other.step_millis, other.length)
            && self.values.len() <= self.length
    }

    /// Returns the time of the newest sample, rounded down to its step.
    #[must_use]
    pub fn last_recorded_at(&self) -> Timestamp {
        Timestamp(self.newest_step.saturating_mul(self.step_millis))
    }
}

#[expect(clippy::cast_precision_loss, reason = "a mean of a few hundred samples, of three digits")]
fn aggregate(value: Option<f32>, sample_count: u32, sample: f32, aggregation: Aggregation) -> f32 {
    let Some(value) = value else { return sample };
    match aggregation {
        Aggregation::Mean => value + (sample - value) / (sample_count as f32 + 1.0),
        Aggregation::Max => value.max(sample),
    }
}

/// Rounds to three decimals: more are not visible, and make the file larger.
fn round_to_three_decimals(value: f32) -> f32 {
    (value * 1000.0).round() / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEP: Duration = Duration::from_secs(10);

    fn at(seconds: i64) -> Timestamp {
        Timestamp(1_700_000_000_000 + seconds * 1000)
    }

    fn series(samples: &[(i64, f32)]) -> TimeSeries {
        let mut series = TimeSeries::new(STEP, 4);
        for (seconds, sample) in samples {
            series.record(*sample, Aggregation::Mean, at(*seconds));
        }
        series
    }

    #[test]
    fn samples_of_one_step_are_aggregated_and_gaps_stay_empty() {
        let series = series(&[(0, 1.0), (5, 3.0), (20, 7.0)]);

        assert_eq!(series.values_until(at(25)), [None, Some(2.0), None, Some(7.0)]);
        assert_eq!(series.values_until(at(45)), [None, Some(7.0), None, None]);
        assert_eq!(series.values_until(at(1000)), [None; 4]);
    }

    #[test]
    fn max_keeps_the_largest_sample_of_a_step() {
        let mut series = TimeSeries::new(STEP, 2);
        for sample in [0.1, 0.9, 0.4] {
            series.record(sample, Aggregation::Max, at(0));
        }

        assert_eq!(series.values_until(at(0)), [None, Some(0.9)]);
    }

    #[test]
    fn a_clock_step_neither_blocks_nor_extends_a_series() {
        let mut series = series(&[(0, 1.0), (1_000_000_000, 2.0)]);
        assert_eq!(series.values_until(at(1_000_000_000)), [None, None, None, Some(2.0)]);

        series.record(3.0, Aggregation::Mean, at(10));
        series.record(5.0, Aggregation::Mean, at(20));

        assert_eq!(series.values_until(at(20)), [None, None, Some(3.0), Some(5.0)]);
    }

    #[test]
    fn non_finite_samples_are_ignored() {
        let series = series(&[(0, f32::NAN), (10, 1.0), (11, f32::INFINITY)]);

        assert_eq!(series.values_until(at(10)), [None, None, None, Some(1.0)]);
    }
}

#[cfg(test)]
mod proptests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_series_never_grows_beyond_its_length(
            samples in prop::collection::vec((any::<i32>(), any::<f32>()), 0..50),
            length in 1..20_usize,
        ) {
            let mut series = TimeSeries::new(Duration::from_secs(1), length);
            for (at, sample) in samples {
                let now = Timestamp(i64::from(at) * 100);
                series.record(sample, Aggregation::Mean, now);
                prop_assert!(series.values.len() <= length);
                prop_assert_eq!(series.values_until(now).len(), length);
                if sample.is_finite() {
                    prop_assert!(series.values_until(now).last().copied().flatten().is_some());
                }
            }
        }
    }
}
