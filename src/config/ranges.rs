//! Ranges of durations and counts that several tables share.

use std::ops::RangeInclusive;
use std::time::Duration;

/// Longest duration. A longer one has the wrong unit, most likely, and sums with it could overflow.
pub(super) const MAX_DURATION: Duration = Duration::from_secs(366 * 86_400);

/// Range of most durations. They must not be zero, or the worker would loop without a pause.
pub(super) const POSITIVE_DURATION: RangeInclusive<Duration> =
    Duration::from_millis(1)..=MAX_DURATION;
pub(super) const ANY_DURATION: RangeInclusive<Duration> = Duration::ZERO..=MAX_DURATION;

/// Range of counts of attempts and failures. More is a typo, or meant as "unlimited", which
/// the worker does not support.
pub(super) const POSITIVE_COUNT: RangeInclusive<u32> = 1..=10_000;
pub(super) const ANY_COUNT: RangeInclusive<u32> = 0..=10_000;

pub(super) const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}
