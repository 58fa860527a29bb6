//! How long things take: counts in fixed buckets, whose sums over sources and times mean something.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::engine::Timestamp;
use crate::engine::metrics::add_saturating;

/// The upper bounds of the buckets, in milliseconds; what takes longer is in one more. They are
/// the usual ones for requests, and go on to minutes for large documents and slow disks.
pub const BUCKET_BOUNDS_MILLIS: [u64; 14] =
    [5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 30_000, 60_000, 300_000];

/// How many minutes are recent, the one that is not over included.
pub const ROLLING_WINDOW_MINUTES: i64 = 5;

const BUCKETS: usize = BUCKET_BOUNDS_MILLIS.len() + 1;
const MINUTE_SLOTS: usize = 5;
const MINUTE_MILLIS: i64 = 60_000;

/// Durations, counted.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Histogram {
    /// How many fell into each bucket, and into none below it.
    pub buckets: [u64; BUCKETS],
    pub sum_micros: u64,
}

/// Durations of the last minutes: one histogram per minute, each dropped as a whole.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct RollingHistogram {
    /// The minute of the first slot, since the epoch. The others are of those before it.
    #[serde(rename = "minute")]
    newest_minute: i64,
    slots: [Histogram; MINUTE_SLOTS],
}

impl Histogram {
    pub fn record(&mut self, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let bucket =
            BUCKET_BOUNDS_MILLIS.partition_point(|bound| bound.saturating_mul(1_000) < micros);
        add_saturating(&mut self.buckets[bucket], 1);
        add_saturating(&mut self.sum_micros, micros);
    }

    #[must_use]
    pub fn count(&self) -> u64 {
        self.buckets.iter().fold(0, |all, bucket| all.saturating_add(*bucket))
    }

    /// The time within which this `share` of all ended, taken to lie evenly within a bucket, as
    /// Prometheus takes it too. Beyond the last bound it is the last bound; `None` of nothing.
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

    /// Counts what another counted, too.
    pub fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.buckets.iter_mut().zip(other.buckets) {
            add_saturating(mine, theirs);
        }
        add_saturating(&mut self.sum_micros, other.sum_micros);
    }
}

impl RollingHistogram {
    /// Drops what is no longer recent. After a clock that was set back nothing is.
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

    pub(super) fn record(&mut self, took: Duration) {
        self.slots[0].record(took);
    }

    /// All that is still recent `now`, however long ago it was written down.
    #[must_use]
    pub fn merged(&self, now: Timestamp) -> Histogram {
        let mut recent = *self;
        recent.advance_to(now);
        let mut all = Histogram::default();
        recent.slots.iter().for_each(|slot| all.merge(slot));
        all
    }
}
