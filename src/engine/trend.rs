//! One figure over time: a value for each of a fixed number of equal steps, so that any time takes the same room.

use std::collections::VecDeque;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::engine::Moment;

/// The steps of a figure, the newest last. A step in which nothing was noted has no value.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Series {
    step_millis: i64,
    length: usize,
    /// The step that the last value belongs to, counted from the Unix epoch.
    newest: i64,
    /// What the newest value is made of.
    noted: u32,
    values: VecDeque<Option<f32>>,
}

/// What becomes of several figures in one step.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Merge {
    Mean,
    /// The largest.
    Worst,
}

impl Series {
    /// An empty series of `length` steps.
    #[must_use]
    pub fn new(step: Duration, length: usize) -> Self {
        let step_millis = i64::try_from(step.as_millis()).unwrap_or(i64::MAX).max(1);
        Self { step_millis, length: length.max(1), newest: 0, noted: 0, values: VecDeque::new() }
    }

    /// Notes a figure. A clock that was set back by more than a step begins the series anew: what it
    /// then said of the future was wrong.
    pub fn note(&mut self, figure: f32, merge: Merge, now: Moment) {
        let step = now.0.div_euclid(self.step_millis);
        if !figure.is_finite() {
            return;
        }
        if step < self.newest - 1 || self.values.is_empty() {
            self.values.clear();
            (self.newest, self.noted) = (step, 0);
            self.values.push_back(None);
        }
        let ahead = step.saturating_sub(self.newest);
        let empty = usize::try_from(ahead).unwrap_or(0).min(self.length);
        if empty > 0 {
            self.values.extend(std::iter::repeat_n(None, empty));
            (self.newest, self.noted) = (step, 0);
        }
        let surplus = self.values.len().saturating_sub(self.length);
        self.values.drain(..surplus);
        if let Some(newest) = self.values.back_mut() {
            *newest = Some(round(merged(*newest, self.noted, figure, merge)));
            self.noted = self.noted.saturating_add(1);
        }
    }

    /// The time that one value is about.
    #[must_use]
    pub fn step(&self) -> Duration {
        Duration::from_millis(self.step_millis.unsigned_abs())
    }

    /// The time that all values together are about.
    #[must_use]
    pub fn span(&self) -> Duration {
        self.step().saturating_mul(u32::try_from(self.length).unwrap_or(u32::MAX))
    }

    /// As many values as there are steps, the last of them that of `now`.
    #[must_use]
    pub fn until(&self, now: Moment) -> Vec<Option<f32>> {
        let step = now.0.div_euclid(self.step_millis);
        let first = step.saturating_sub(i64::try_from(self.length).unwrap_or(i64::MAX)) + 1;
        let oldest = self.newest - i64::try_from(self.values.len()).unwrap_or(0) + 1;
        let value = |step: i64| {
            let at = usize::try_from(step.checked_sub(oldest)?).ok()?;
            self.values.get(at).copied().flatten()
        };
        (0_i64..).take(self.length).map(|after| value(first + after)).collect()
    }

    /// Whether it has steps of this size and number: a file may be of a program that had others.
    #[must_use]
    pub fn is_like(&self, other: &Self) -> bool {
        (self.step_millis, self.length) == (other.step_millis, other.length)
            && self.values.len() <= self.length
    }

    /// When something was last noted, to the step.
    #[must_use]
    pub fn noted_at(&self) -> Moment {
        Moment(self.newest.saturating_mul(self.step_millis))
    }
}

#[expect(clippy::cast_precision_loss, reason = "a mean of a few hundred figures, of three digits")]
fn merged(before: Option<f32>, noted: u32, figure: f32, merge: Merge) -> f32 {
    let Some(before) = before else { return figure };
    match merge {
        Merge::Mean => before + (figure - before) / (noted as f32 + 1.0),
        Merge::Worst => before.max(figure),
    }
}

/// Three decimals are as much as anyone sees, and as a file should carry.
fn round(figure: f32) -> f32 {
    (figure * 1000.0).round() / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEP: Duration = Duration::from_secs(10);

    fn at(seconds: i64) -> Moment {
        Moment(1_700_000_000_000 + seconds * 1000)
    }

    fn series(notes: &[(i64, f32)]) -> Series {
        let mut series = Series::new(STEP, 4);
        for (seconds, figure) in notes {
            series.note(*figure, Merge::Mean, at(*seconds));
        }
        series
    }

    #[test]
    fn figures_of_one_step_are_merged_and_gaps_stay_empty() {
        let series = series(&[(0, 1.0), (5, 3.0), (20, 7.0)]);

        assert_eq!(series.until(at(25)), [None, Some(2.0), None, Some(7.0)]);
        assert_eq!(series.until(at(45)), [None, Some(7.0), None, None]);
        assert_eq!(series.until(at(1000)), [None; 4]);
    }

    #[test]
    fn the_worst_of_a_step_stands() {
        let mut series = Series::new(STEP, 2);
        for figure in [0.1, 0.9, 0.4] {
            series.note(figure, Merge::Worst, at(0));
        }

        assert_eq!(series.until(at(0)), [None, Some(0.9)]);
    }

    #[test]
    fn a_clock_that_steps_neither_blocks_nor_lengthens_it() {
        let mut series = series(&[(0, 1.0), (1_000_000_000, 2.0)]);
        assert_eq!(series.until(at(1_000_000_000)), [None, None, None, Some(2.0)]);

        series.note(3.0, Merge::Mean, at(10));
        series.note(5.0, Merge::Mean, at(20));

        assert_eq!(series.until(at(20)), [None, None, Some(3.0), Some(5.0)]);
    }

    #[test]
    fn what_is_no_number_is_not_noted() {
        let series = series(&[(0, f32::NAN), (10, 1.0), (11, f32::INFINITY)]);

        assert_eq!(series.until(at(10)), [None, None, None, Some(1.0)]);
    }
}

#[cfg(test)]
mod laws {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_never_grows_beyond_its_length(
            notes in prop::collection::vec((any::<i32>(), any::<f32>()), 0..50),
            length in 1..20_usize,
        ) {
            let mut series = Series::new(Duration::from_secs(1), length);
            for (at, figure) in notes {
                let now = Moment(i64::from(at) * 100);
                series.note(figure, Merge::Mean, now);
                prop_assert!(series.values.len() <= length);
                prop_assert_eq!(series.until(now).len(), length);
                if figure.is_finite() {
                    prop_assert!(series.until(now).last().copied().flatten().is_some());
                }
            }
        }
    }
}
