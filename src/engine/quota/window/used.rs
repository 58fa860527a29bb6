//! What we used of a limit that trickles: each unit comes back when it is a window old.

use std::collections::VecDeque;
use std::time::Duration;

use crate::engine::Moment;
use crate::engine::quota::window::Context;

/// Replies within this part of a window are kept as one, so that a quota of any size takes little room.
const SLOTS: u32 = 128;

const MILLISECOND: Duration = Duration::from_millis(1);

/// Units accepted about the same time.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Slot {
    /// The server counted none of them before.
    earliest: Moment,
    /// And all of them by then.
    latest: Moment,
    units: f64,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Used {
    slots: VecDeque<Slot>,
    /// The shortest time from a request to its reply.
    quickest: Option<Duration>,
    /// Units accepted since the start, as of the last reply.
    accepted: f64,
}

impl Used {
    pub(super) fn new() -> Self {
        Self { slots: VecDeque::new(), quickest: None, accepted: 0.0 }
    }

    /// Takes in what was accepted up to a reply. What was before the window was known is as new as it.
    ///
    /// `counted`: units that the server has as used, ours among them.
    pub(super) fn note(&mut self, window: Option<Duration>, counted: f64, context: &Context) {
        let took = context.now.since(context.sent);
        self.quickest = Some(self.quickest.map_or(took, |quickest| quickest.min(took)));
        let Some(window) = window else { return };
        let units = (context.accepted - self.accepted).min(counted);
        self.accepted = context.accepted;
        if self.slots.back().is_some_and(|slot| slot.latest > context.now) {
            // The clock was set back.
            self.slots.clear();
        }
        while self.slots.front().is_some_and(|slot| slot.latest.after(window) < context.sent) {
            self.slots.pop_front();
        }
        if units <= 0.0 {
            return;
        }
        match self.slots.back_mut() {
            Some(slot) if context.sent.since(slot.earliest) < window / SLOTS => {
                slot.earliest = slot.earliest.min(context.sent);
                slot.latest = context.now;
                slot.units += units;
            }
            Some(_) | None => {
                self.slots.push_back(Slot { earliest: context.sent, latest: context.now, units });
            }
        }
    }

    /// Returns when `units` are back, for certain, of those that a reply read at `told_at` still counted.
    pub(super) fn back_at(&self, units: f64, window: Duration, told_at: Moment) -> Option<Moment> {
        let counted = self.slots.iter().filter(|slot| slot.earliest.after(window) > told_at);
        self.back(units, counted, window)
    }

    /// Returns when no more than `units` are less than a window old, for certain.
    pub(super) fn down_to(&self, units: f64, window: Duration, now: Moment) -> Option<Moment> {
        let young = || self.slots.iter().filter(|slot| self.old_at(slot, window) > now);
        let counted: f64 = young().map(|slot| slot.units).sum();
        self.back(counted - units, young(), window)
    }

    fn back<'a>(
        &self,
        mut units: f64,
        mut slots: impl Iterator<Item = &'a Slot>,
        window: Duration,
    ) -> Option<Moment> {
        if units <= 1e-6 {
            return Some(Moment(i64::MIN));
        }
        let last = slots.find(|slot| {
            units -= slot.units;
            units <= 1e-6
        });
        last.map(|slot| self.old_at(slot, window))
    }

    /// When a request may be sent that gets there after the unit is a window old. It was counted
    /// before its reply had to come back, and the next request has to get there: together that takes
    /// no less than the quickest there and back.
    fn old_at(&self, slot: &Slot, window: Duration) -> Moment {
        let quickest = self.quickest.unwrap_or_default().saturating_sub(MILLISECOND);
        slot.latest.after(window).before(quickest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Duration = Duration::from_secs(10);

    /// Units accepted one by one, each sent 100 ms before its reply is read.
    fn used(replies: &[i64]) -> Used {
        let context = |accepted, now: i64| Context {
            sent: Moment(now - 100),
            in_flight: 0.0,
            accepted,
            is_accepted: true,
            reserve: 0.0,
            now: Moment(now),
        };
        let mut used = Used::new();
        let mut accepted = 0.0;
        for now in replies {
            accepted += 1.0;
            used.note(Some(WINDOW), f64::INFINITY, &context(accepted, *now));
        }
        used
    }

    #[test]
    fn a_unit_is_back_for_whoever_asks_as_long_before_its_reply_as_the_quickest_takes() {
        let used = used(&[1_000, 2_000, 3_000]);

        let back_at = |units| used.back_at(units, WINDOW, Moment(5_000));
        assert_eq!(back_at(1.0), Some(Moment(10_901)));
        assert_eq!(back_at(3.0), Some(Moment(12_901)));
        assert_eq!(back_at(4.0), None, "of another the server may know, but not we");
    }

    #[test]
    fn there_is_room_when_enough_is_old() {
        let used = used(&[1_000, 2_000, 3_000]);

        let down_to = |units, now| used.down_to(units, WINDOW, Moment(now));
        assert!(down_to(3.0, 5_000).is_some_and(|at| at < Moment(5_000)), "there is now");
        assert_eq!(down_to(1.0, 5_000), Some(Moment(11_901)));
        assert_eq!(down_to(-1.0, 5_000), None, "more is in flight than there may ever be");
    }

    #[test]
    fn what_was_used_before_the_window_was_known_counts_as_new() {
        let mut used = Used::new();
        let context = |now| Context {
            sent: Moment(now),
            in_flight: 0.0,
            accepted: 20.0,
            is_accepted: true,
            reserve: 0.0,
            now: Moment(now),
        };
        used.note(None, 12.0, &context(1_000));

        used.note(Some(WINDOW), 12.0, &context(3_000));

        assert_eq!(used.down_to(11.0, WINDOW, Moment(4_000)), Some(Moment(13_000)));
        assert!(used.down_to(12.0, WINDOW, Moment(4_000)) < Some(Moment(4_000)));
    }

    #[test]
    fn a_unit_that_may_have_been_back_when_the_reply_came_is_not_hoped_for() {
        let used = used(&[1_000, 2_000]);

        assert_eq!(used.back_at(1.0, WINDOW, Moment(10_950)), Some(Moment(11_901)));
    }

    #[test]
    fn a_clock_that_is_set_back_makes_no_wait_longer() {
        let used = used(&[86_400_000, 1_000]);

        assert_eq!(used.back_at(1.0, WINDOW, Moment(5_000)), Some(Moment(10_901)));
    }

    #[test]
    fn many_replies_take_little_room() {
        let replies: Vec<i64> = (0..20_000).collect();

        assert!(used(&replies).slots.len() <= 130);
    }
}
