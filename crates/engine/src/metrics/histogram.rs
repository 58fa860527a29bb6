//! Histograms of durations, with fixed buckets so that they can be added over sources and times.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::Timestamp;
use crate::metrics::add_saturating;

/// Upper bounds of the buckets, in milliseconds; longer durations are in one more bucket. The
/// usual bounds for requests, extended to minutes for large documents and slow disks.
pub const BUCKET_BOUNDS_MILLIS: [u64; 14] =
    [5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 30_000, 60_000, 300_000];

/// Minutes of the rolling window, including the current one.
pub const ROLLING_WINDOW_MINUTES: i64 = 5;

const BUCKETS: usize = BUCKET_BOUNDS_MILLIS.len() + 1;
const MINUTE_SLOTS: usize = 5;
const MINUTE_MILLIS: i64 = 60_000;

/// Histogram of durations.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Histogram {
    /// Count of each bucket, not cumulative.
    pub buckets: [u64; BUCKETS],
    pub sum_micros: u64,
}

/// Durations of the last minutes: one histogram per minute, each dropped as a whole.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct RollingHistogram {
    /// Minute of the first slot, since the epoch; each further slot is a minute older.
    #[serde(rename = "minute")]
    newest_minute: i64,
    slots: [Histogram; MINUTE_SLOTS],
}

impl Histogram {
    pub fn record(&mut self, duration: Duration) {
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        let bucket =
            BUCKET_BOUNDS_MILLIS.partition_point(|bound| bound.saturating_mul(1_000) < micros);
        add_saturating(&mut self.buckets[bucket], 1);
        add_saturating(&mut self.sum_micros, micros);
    }

    #[must_use]
    pub fn count(&self) -> u64 {
        self.buckets.iter().fold(0, |all, bucket| all.saturating_add(*bucket))
    }

    /// Returns the duration within which this `share` ended, interpolated linearly in its bucket,
    /// as Prometheus does. Beyond the last bound it is the last bound; `None` if empty.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "an estimate")]
    pub fn quantile(&self, share: f64) -> Option<Duration> {
        let count = self.count();
        if count == 0 {
            return None;
        }
        let rank = share.clamp(0.0, 1.0) * count as f64;
        let (mut below, mut lower) = (0.0, 0.0);
        for (bucket, bound) in self.buckets.iter().zip(BUCKET_BOUNDS_MILLIS) {
            let (inside, upper) = (*bucket as f64, bound as f64);
            if inside > 0.0 && rank <= below + inside {
                let millis = lower + (upper - lower) * ((rank - below) / inside).max(0.0);
                return Some(Duration::from_secs_f64(millis / 1_000.0));
            }
            (below, lower) = (below + inside, upper);
        }
        Some(Duration::from_millis(BUCKET_BOUNDS_MILLIS[BUCKET_BOUNDS_MILLIS.len() - 1]))
    }

    /// Adds the counts of another histogram.
    pub fn merge(&mut self, other: &Self) {
        for (count, added) in self.buckets.iter_mut().zip(other.buckets) {
            add_saturating(count, added);
        }
        add_saturating(&mut self.sum_micros, other.sum_micros);
    }
}

impl RollingHistogram {
    /// Drops the minutes that have left the window; all of them after a backward clock step.
    pub(super) fn advance_to(&mut self, now: Timestamp) {
        let minute = now.0.div_euclid(MINUTE_MILLIS);
        if minute == self.newest_minute {
            return;
        }
        match usize::try_from(minute.saturating_sub(self.newest_minute)) {
            Ok(passed) if passed < MINUTE_SLOTS => {
                self.slots.rotate_right(passed);
                self.slots[..passed].fill(Histogram::default());
            }
            Ok(_) | Err(_) => self.slots = Default::default(),
        }
        self.newest_minute = minute;
    }

    pub(super) fn record(&mut self, duration: Duration) {
        self.slots[0].record(duration);
    }

    /// Returns the sum of the window at `now`, whenever the histogram was last advanced.
    #[must_use]
    pub fn merged(&self, now: Timestamp) -> Histogram {
        let mut recent = *self;
        recent.advance_to(now);
        let mut total = Histogram::default();
        recent.slots.iter().for_each(|slot| total.merge(slot));
        total
    }
}
