//! Units spent recently. A server with a sliding window counts a unit until it is one window old.

use std::collections::VecDeque;
use std::time::Duration;

use crate::{ClockStep, Timestamp};

/// Number of buckets per window. Responses within one bucket are merged, so that a limit of any
/// size needs little memory.
const BUCKETS_PER_WINDOW: u32 = 128;

/// Units spent at about the same time.
#[derive(Clone, Copy, Debug, PartialEq)]
struct SpentBucket {
    /// Lower bound of the time at which the server counted the first unit.
    earliest: Timestamp,
    /// Upper bound of the time at which the server counted the last unit.
    latest: Timestamp,
    units: f64,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct SpentWindow {
    buckets: VecDeque<SpentBucket>,
    /// Shortest time from a request to its response.
    min_latency: Option<Duration>,
}

impl SpentWindow {
    /// Records units requested at `sent_at`, whose response arrived at `now`. Units much older than
    /// `window` are dropped.
    pub(super) fn record(
        &mut self,
        units: f64,
        sent_at: Timestamp,
        now: Timestamp,
        window: Duration,
    ) {
        while self.buckets.front().is_some_and(|bucket| bucket.latest.after(window * 2) < now) {
            self.buckets.pop_front();
        }
        match self.buckets.back_mut() {
            Some(bucket) if sent_at.since(bucket.earliest) < window / BUCKETS_PER_WINDOW => {
                bucket.earliest = bucket.earliest.min(sent_at);
                bucket.latest = now;
                bucket.units += units;
            }
            Some(_) | None => {
                self.buckets.push_back(SpentBucket { earliest: sent_at, latest: now, units });
            }
        }
    }

    /// Records the time from a request to its response.
    pub(super) fn record_latency(&mut self, latency: Duration) {
        self.min_latency = Some(self.min_latency.map_or(latency, |shortest| shortest.min(latency)));
    }

    /// Shifts all times by a clock step, so that the age of the units stays the same.
    pub(super) fn shift_by(&mut self, step: ClockStep) {
        for bucket in &mut self.buckets {
            bucket.earliest = bucket.earliest.shifted_by(step);
            bucket.latest = bucket.latest.shifted_by(step);
        }
    }

    /// Returns the time at which `units` have certainly expired, of those that a response read at
    /// `read_at` still counted.
    pub(super) fn units_expired_at(
        &self,
        units: f64,
        window: Duration,
        read_at: Timestamp,
    ) -> Option<Timestamp> {
        let counted = self.buckets.iter().filter(|bucket| bucket.earliest.after(window) > read_at);
        self.expiry_of_units(units, counted, window)
    }

    /// Returns the time at which the units within the window have certainly fallen to `units`.
    pub(super) fn falls_to_at(
        &self,
        units: f64,
        window: Duration,
        now: Timestamp,
    ) -> Option<Timestamp> {
        self.expiry_of_units(
            self.units_in_window(window, now) - units,
            self.within_window(window, now),
            window,
        )
    }

    /// Returns the units that may be within the window.
    pub(super) fn units_in_window(&self, window: Duration, now: Timestamp) -> f64 {
        self.within_window(window, now).map(|bucket| bucket.units).sum()
    }

    fn within_window(
        &self,
        window: Duration,
        now: Timestamp,
    ) -> impl Iterator<Item = &SpentBucket> {
        self.buckets.iter().filter(move |bucket| self.bucket_expiry(bucket, window) > now)
    }

    fn expiry_of_units<'a>(
        &self,
        mut units: f64,
        mut buckets: impl Iterator<Item = &'a SpentBucket>,
        window: Duration,
    ) -> Option<Timestamp> {
        if units <= 1e-6 {
            // There is nothing to wait for.
            return Some(Timestamp(i64::MIN));
        }
        let last = buckets.find(|bucket| {
            units -= bucket.units;
            units <= 1e-6
        });
        last.map(|bucket| self.bucket_expiry(bucket, window))
    }

    /// Returns the earliest send time of a request that arrives after the bucket has expired. The
    /// server counted the units before their response travelled back, and the next request has to
    /// travel there: together about the shortest latency. Only half of it is subtracted, because
    /// the next request may be faster than all before.
    fn bucket_expiry(&self, bucket: &SpentBucket, window: Duration) -> Timestamp {
        bucket.latest.after(window).before(self.min_latency.unwrap_or_default() / 2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Duration = Duration::from_secs(10);

    /// Units spent one by one, each requested 100 ms before its response is read.
    fn spent_units(response_times: &[i64]) -> SpentWindow {
        let mut spent = SpentWindow::default();
        spent.record_latency(Duration::from_millis(100));
        for now in response_times {
            spent.record(1.0, Timestamp(now - 100), Timestamp(*now), WINDOW);
        }
        spent
    }

    #[test]
    fn a_unit_expires_half_the_minimum_latency_early() {
        let spent = spent_units(&[1_000, 2_000, 3_000]);

        let expired_at = |units| spent.units_expired_at(units, WINDOW, Timestamp(5_000));
        assert_eq!(expired_at(1.0), Some(Timestamp(10_950)));
        assert_eq!(expired_at(3.0), Some(Timestamp(12_950)));
        assert_eq!(expired_at(4.0), None, "only three units are recorded");
    }

    #[test]
    fn there_is_room_once_enough_units_expired() {
        let spent = spent_units(&[1_000, 2_000, 3_000]);

        let falls_to_at = |units, now| spent.falls_to_at(units, WINDOW, Timestamp(now));
        assert!(
            falls_to_at(3.0, 5_000).is_some_and(|at| at < Timestamp(5_000)),
            "there is room already"
        );
        assert_eq!(falls_to_at(1.0, 5_000), Some(Timestamp(11_950)));
        assert_eq!(falls_to_at(-1.0, 5_000), None, "the units in flight exceed the limit");
    }

    #[test]
    fn units_possibly_expired_at_the_response_are_not_relied_on() {
        let spent = spent_units(&[1_000, 2_000]);

        assert_eq!(spent.units_expired_at(1.0, WINDOW, Timestamp(10_950)), Some(Timestamp(11_950)));
    }

    #[test]
    fn clock_set_back_keeps_the_age_of_units() {
        let mut spent = spent_units(&[86_400_000]);

        spent.shift_by(ClockStep::between(Timestamp(86_399_000), Timestamp(0)).unwrap());

        assert_eq!(spent.units_expired_at(1.0, WINDOW, Timestamp(5_000)), Some(Timestamp(10_950)));
    }

    #[test]
    fn many_responses_need_little_memory_and_expire() {
        let mut spent = spent_units(&(0..50_000).collect::<Vec<_>>());
        assert!(spent.buckets.len() <= 2 * 129, "{}", spent.buckets.len());

        spent.record(1.0, Timestamp(100_000), Timestamp(100_000), WINDOW);
        assert_eq!(spent.buckets.len(), 1);
    }
}
