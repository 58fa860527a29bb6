//! What we used lately. A server that counts what was asked within a window counts a unit until it is
//! a window old.

use std::collections::VecDeque;
use std::time::Duration;

use crate::engine::{ClockStep, Timestamp};

/// Replies within this part of a window are kept as one, so that a quota of any size takes little room.
const SLOTS: u32 = 128;

/// Units used about the same time.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Slot {
    /// The server counted none of them before.
    earliest: Timestamp,
    /// And all of them by then.
    latest: Timestamp,
    units: f64,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Used {
    slots: VecDeque<Slot>,
    /// The shortest time from a request to its reply.
    quickest: Option<Duration>,
}

impl Used {
    /// Notes units that were asked for at `sent` and answered at `now`. What is much older than
    /// `window` is forgotten.
    pub(super) fn note(&mut self, units: f64, sent: Timestamp, now: Timestamp, window: Duration) {
        while self.slots.front().is_some_and(|slot| slot.latest.after(window * 2) < now) {
            self.slots.pop_front();
        }
        match self.slots.back_mut() {
            Some(slot) if sent.since(slot.earliest) < window / SLOTS => {
                slot.earliest = slot.earliest.min(sent);
                slot.latest = now;
                slot.units += units;
            }
            Some(_) | None => {
                self.slots.push_back(Slot { earliest: sent, latest: now, units });
            }
        }
    }

    /// Notes how long a reply took.
    pub(super) fn took(&mut self, span: Duration) {
        self.quickest = Some(self.quickest.map_or(span, |quickest| quickest.min(span)));
    }

    /// The clock was set by so much: what was used is as old as it was.
    pub(super) fn move_by(&mut self, step: ClockStep) {
        for slot in &mut self.slots {
            slot.earliest = slot.earliest.shifted_by(step);
            slot.latest = slot.latest.shifted_by(step);
        }
    }

    /// Returns when `units` are back, for certain, of those that a reply read at `told_at` still counted.
    pub(super) fn back_at(
        &self,
        units: f64,
        window: Duration,
        told_at: Timestamp,
    ) -> Option<Timestamp> {
        let counted = self.slots.iter().filter(|slot| slot.earliest.after(window) > told_at);
        self.back(units, counted, window)
    }

    /// Returns when no more than `units` are less than a window old, for certain.
    pub(super) fn down_to(
        &self,
        units: f64,
        window: Duration,
        now: Timestamp,
    ) -> Option<Timestamp> {
        self.back(self.counted(window, now) - units, self.young(window, now), window)
    }

    /// Returns the units that may be less than a window old.
    pub(super) fn counted(&self, window: Duration, now: Timestamp) -> f64 {
        self.young(window, now).map(|slot| slot.units).sum()
    }

    fn young(&self, window: Duration, now: Timestamp) -> impl Iterator<Item = &Slot> {
        self.slots.iter().filter(move |slot| self.old_at(slot, window) > now)
    }

    fn back<'a>(
        &self,
        mut units: f64,
        mut slots: impl Iterator<Item = &'a Slot>,
        window: Duration,
    ) -> Option<Timestamp> {
        if units <= 1e-6 {
            // There is nothing to wait for, at any time.
            return Some(Timestamp(i64::MIN));
        }
        let last = slots.find(|slot| {
            units -= slot.units;
            units <= 1e-6
        });
        last.map(|slot| self.old_at(slot, window))
    }

    /// When a request may be sent that gets there after the units are a window old. They were counted
    /// before their reply had to come back, and the next request has to get there: together that
    /// takes about as long as the quickest there and back. Half of it is counted on, since the next
    /// may be quicker than all before.
    fn old_at(&self, slot: &Slot, window: Duration) -> Timestamp {
        slot.latest.after(window).before(self.quickest.unwrap_or_default() / 2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Duration = Duration::from_secs(10);

    /// Units used one by one, each asked for 100 ms before its reply is read.
    fn used(replies: &[i64]) -> Used {
        let mut used = Used::default();
        used.took(Duration::from_millis(100));
        for now in replies {
            used.note(1.0, Timestamp(now - 100), Timestamp(*now), WINDOW);
        }
        used
    }

    #[test]
    fn a_unit_is_back_for_whoever_asks_half_as_long_before_its_reply_as_the_quickest_takes() {
        let used = used(&[1_000, 2_000, 3_000]);

        let back_at = |units| used.back_at(units, WINDOW, Timestamp(5_000));
        assert_eq!(back_at(1.0), Some(Timestamp(10_950)));
        assert_eq!(back_at(3.0), Some(Timestamp(12_950)));
        assert_eq!(back_at(4.0), None, "of another the server may know, but not we");
    }

    #[test]
    fn there_is_room_when_enough_is_old() {
        let used = used(&[1_000, 2_000, 3_000]);

        let down_to = |units, now| used.down_to(units, WINDOW, Timestamp(now));
        assert!(down_to(3.0, 5_000).is_some_and(|at| at < Timestamp(5_000)), "there is now");
        assert_eq!(down_to(1.0, 5_000), Some(Timestamp(11_950)));
        assert_eq!(down_to(-1.0, 5_000), None, "more is in flight than there may ever be");
    }

    #[test]
    fn a_unit_that_may_have_been_back_when_the_reply_came_is_not_hoped_for() {
        let used = used(&[1_000, 2_000]);

        assert_eq!(used.back_at(1.0, WINDOW, Timestamp(10_950)), Some(Timestamp(11_950)));
    }

    #[test]
    fn a_clock_that_is_set_back_makes_no_unit_younger() {
        let mut used = used(&[86_400_000]);

        used.move_by(ClockStep::between(Timestamp(86_399_000), Timestamp(0)).unwrap());

        assert_eq!(used.back_at(1.0, WINDOW, Timestamp(5_000)), Some(Timestamp(10_950)));
    }

    #[test]
    fn many_replies_take_little_room_and_are_forgotten_with_time() {
        let mut used = used(&(0..50_000).collect::<Vec<_>>());
        assert!(used.slots.len() <= 2 * 129, "{}", used.slots.len());

        used.note(1.0, Timestamp(100_000), Timestamp(100_000), WINDOW);
        assert_eq!(used.slots.len(), 1);
    }
}
