//! What we used of a limit that trickles: each unit comes back when it is a window old.

use std::collections::VecDeque;
use std::time::Duration;

use crate::engine::Moment;
use crate::engine::quota::window::Context;

/// Replies within this part of a window are kept as one, so that a quota of any size takes little room.
const SLOTS: u32 = 128;

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
    /// Units accepted since the start, as of the last reply.
    accepted: f64,
}

impl Used {
    pub(super) fn new(context: &Context) -> Self {
        Self { slots: VecDeque::new(), accepted: context.accepted }
    }

    /// Takes in what a reply says was accepted. Without a window nothing is known to come back.
    pub(super) fn note(&mut self, window: Option<Duration>, context: &Context) {
        let units = context.accepted - self.accepted;
        self.accepted = context.accepted;
        let Some(window) = window else { return };
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
        let mut lacking = units;
        let mut counted = self.slots.iter().filter(|slot| slot.earliest.after(window) > told_at);
        let last = counted.find(|slot| {
            lacking -= slot.units;
            lacking <= 1e-6
        });
        last.map(|slot| slot.latest.after(window))
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
        let mut used = Used::new(&context(0.0, 0));
        let mut accepted = 0.0;
        for now in replies {
            accepted += 1.0;
            used.note(Some(WINDOW), &context(accepted, *now));
        }
        used
    }

    #[test]
    fn a_unit_is_back_a_window_after_its_reply_at_the_latest() {
        let used = used(&[1_000, 2_000, 3_000]);

        let back_at = |units| used.back_at(units, WINDOW, Moment(5_000));
        assert_eq!(back_at(1.0), Some(Moment(11_000)));
        assert_eq!(back_at(3.0), Some(Moment(13_000)));
        assert_eq!(back_at(4.0), None, "of another the server may know, but not we");
    }

    #[test]
    fn a_unit_that_may_have_been_back_when_the_reply_came_is_not_hoped_for() {
        let used = used(&[1_000, 2_000]);

        assert_eq!(used.back_at(1.0, WINDOW, Moment(10_950)), Some(Moment(12_000)));
    }

    #[test]
    fn a_clock_that_is_set_back_makes_no_wait_longer() {
        let used = used(&[86_400_000, 1_000]);

        assert_eq!(used.back_at(1.0, WINDOW, Moment(5_000)), Some(Moment(11_000)));
    }

    #[test]
    fn many_replies_take_little_room() {
        let replies: Vec<i64> = (0..20_000).collect();

        assert!(used(&replies).slots.len() <= 130);
    }
}
