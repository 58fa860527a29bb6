//! Units spent recently. A server with a sliding window counts a unit until it is one window old.

use std::collections::VecDeque;
use std::time::Duration;

use crate::engine::{ClockStep, Timestamp};

/// Number of buckets per window. Replies within one bucket are merged, so that a limit of any size
/// needs little memory.
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
    /// Shortest time from a request to its reply.
    min_latency: Option<Duration>,
}

impl SpentWindow {
    /// Records units requested at `sent` and answered at `now`. Units much older than `window` are
    /// dropped.
    pub(super) fn record(&mut self, units: f64, sent: Timestamp, now: Timestamp, window: Duration) {
        while self.buckets.front().is_some_and(|slot| slot.latest.after(window * 2) < now) {
            self.buckets.pop_front();
        }
        match self.buckets.back_mut() {
            Some(slot) if sent.since(slot.earliest) < window / BUCKETS_PER_WINDOW => {
                slot.earliest = slot.earliest.min(sent);
                slot.latest = now;
                slot.units += units;
            }
            Some(_) | None => {
                self.buckets.push_back(SpentBucket { earliest: sent, latest: now, units });
            }
        }
    }

    /// Records the time from a request to its reply.
    pub(super) fn record_latency(&mut self, span: Duration) {
        self.min_latency = Some(self.min_latency.map_or(span, |quickest| quickest.min(span)));
    }

    /// Shifts all times by a clock step, so that the age of the units stays the same.
    pub(super) fn shift_by(&mut self, step: ClockStep) {
        for slot in &mut self.buckets {
            slot.earliest = slot.earliest.shifted_by(step);
            slot.latest = slot.latest.shifted_by(step);
        }
    }

    /// Returns the time at which `units` have certainly expired, of those that a reply read at
    /// `told_at` still counted.
    pub(super) fn units_expired_at(
        &self,
        units: f64,
        window: Duration,
        told_at: Timestamp,
    ) -> Option<Timestamp> {
        let counted = self.buckets.iter().filter(|slot| slot.earliest.after(window) > told_at);
        self.expiry_of_units(units, counted, window)
    }

    /// Returns the time from which certainly no more than `units` are within the window.
    pub(super) fn drained_to_at(
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
        self.within_window(window, now).map(|slot| slot.units).sum()
    }

    fn within_window(
        &self,
        window: Duration,
        now: Timestamp,
    ) -> impl Iterator<Item = &SpentBucket> {
        self.buckets.iter().filter(move |slot| self.bucket_expiry(slot, window) > now)
    }

    fn expiry_of_units<'a>(
        &self,
        mut units: f64,
        mut slots: impl Iterator<Item = &'a SpentBucket>,
        window: Duration,
    ) -> Option<Timestamp> {
        if units <= 1e-6 {
            // There is nothing to wait for.
            return Some(Timestamp(i64::MIN));
        }
        let last = slots.find(|slot| {
            units -= slot.units;
            units <= 1e-6
        });
        last.map(|slot| self.bucket_expiry(slot, window))
    }

    /// Returns the send time of a request that arrives after the bucket has expired. The server
    /// counted the units before their reply travelled back, and the next request has to travel
    /// there: together about the shortest latency. Only half of it is subtracted, because the next
    /// request may be faster than all before.
    fn bucket_expiry(&self, slot: &SpentBucket, window: Duration) -> Timestamp {
        slot.latest.after(window).before(self.min_latency.unwrap_or_default() / 2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Duration = Duration::from_secs(10);

    /// Units spent one by one, each requested 100 ms before its reply is read.
    fn spent_units(replies: &[i64]) -> SpentWindow {
        let mut used = SpentWindow::default();
        used.record_latency(Duration::from_millis(100));
        for now in replies {
            used.record(1.0, Timestamp(now - 100), Timestamp(*now), WINDOW);
        }
        used
    }

    #[test]
    fn a_unit_expires_half_the_minimum_latency_early() {
        let used = spent_units(&[1_000, 2_000, 3_000]);

        let back_at = |units| used.units_expired_at(units, WINDOW, Timestamp(5_000));
        assert_eq!(back_at(1.0), Some(Timestamp(10_950)));
        assert_eq!(back_at(3.0), Some(Timestamp(12_950)));
        assert_eq!(back_at(4.0), None, "of another the server may know, but not we");
    }

    #[test]
    fn there_is_room_once_enough_units_expired() {
        let used = spent_units(&[1_000, 2_000, 3_000]);

        let down_to = |units, now| used.drained_to_at(units, WINDOW, Timestamp(now));
        assert!(down_to(3.0, 5_000).is_some_and(|at| at < Timestamp(5_000)), "there is now");
        assert_eq!(down_to(1.0, 5_000), Some(Timestamp(11_950)));
        assert_eq!(down_to(-1.0, 5_000), None, "more is in flight than there may ever be");
    }

    #[test]
    fn units_possibly_expired_at_the_reply_are_not_counted_on() {
        let used = spent_units(&[1_000, 2_000]);

        assert_eq!(used.units_expired_at(1.0, WINDOW, Timestamp(10_950)), Some(Timestamp(11_950)));
    }

    #[test]
    fn clock_set_back_keeps_the_age_of_units() {
        let mut used = spent_units(&[86_400_000]);

        used.shift_by(ClockStep::between(Timestamp(86_399_000), Timestamp(0)).unwrap());

        assert_eq!(used.units_expired_at(1.0, WINDOW, Timestamp(5_000)), Some(Timestamp(10_950)));
    }

    #[test]
    fn many_replies_take_little_room_and_are_forgotten_with_time() {
        let mut used = spent_units(&(0..50_000).collect::<Vec<_>>());
        assert!(used.buckets.len() <= 2 * 129, "{}", used.buckets.len());

        used.record(1.0, Timestamp(100_000), Timestamp(100_000), WINDOW);
        assert_eq!(used.buckets.len(), 1);
    }
}
