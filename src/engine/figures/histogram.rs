//! How long things take: counts in fixed buckets, whose sums over sources and times mean something.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::engine::Timestamp;
use crate::engine::figures::grow;

/// The upper bounds of the buckets, in milliseconds; what takes longer is in one more. They are
/// the usual ones for requests, and go on to minutes for large documents and slow disks.
pub const BOUNDS_MILLIS: [u64; 14] =
    [5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 30_000, 60_000, 300_000];

/// How many minutes are recent, the one that is not over included.
pub const RECENT_MINUTES: i64 = 5;

const BUCKETS: usize = BOUNDS_MILLIS.len() + 1;
const SLOTS: usize = 5;
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
pub struct Recent {
    /// The minute of the first slot, since the epoch. The others are of those before it.
    minute: i64,
    slots: [Histogram; SLOTS],
}

impl Histogram {
    pub fn note(&mut self, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let bucket = BOUNDS_MILLIS.partition_point(|bound| bound.saturating_mul(1_000) < micros);
        grow(&mut self.buckets[bucket], 1);
        grow(&mut self.sum_micros, micros);
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
        for (bucket, bound) in self.buckets.iter().zip(BOUNDS_MILLIS) {
            let (inside, upper) = (*bucket as f64, bound as f64);
            if inside > 0.0 && rank <= below + inside {
                let millis = lower + (upper - lower) * ((rank - below) / inside).max(0.0);
                return Some(Duration::from_secs_f64(millis / 1_000.0));
            }
            (below, lower) = (below + inside, upper);
        }
        Some(Duration::from_millis(BOUNDS_MILLIS[BOUNDS_MILLIS.len() - 1]))
    }

    /// Counts what another counted, too.
    pub fn add(&mut self, other: &Self) {
        for (mine, theirs) in self.buckets.iter_mut().zip(other.buckets) {
            grow(mine, theirs);
        }
        grow(&mut self.sum_micros, other.sum_micros);
    }
}

impl Recent {
    /// Drops what is no longer recent. After a clock that was set back nothing is.
    pub(super) fn turn(&mut self, now: Timestamp) {
        let minute = now.0.div_euclid(MINUTE_MILLIS);
        if minute == self.minute {
            return;
        }
        match usize::try_from(minute.saturating_sub(self.minute)) {
            Ok(passed) if passed < SLOTS => {
                self.slots.rotate_right(passed);
                self.slots[..passed].fill(Histogram::default());
            }
            Ok(_) | Err(_) => self.slots = Default::default(),
        }
        self.minute = minute;
    }

    pub(super) fn note(&mut self, took: Duration) {
        self.slots[0].note(took);
    }

    /// All that is still recent `now`, however long ago it was written down.
    #[must_use]
    pub fn together(&self, now: Timestamp) -> Histogram {
        let mut recent = *self;
        recent.turn(now);
        let mut all = Histogram::default();
        recent.slots.iter().for_each(|slot| all.add(slot));
        all
    }
}
