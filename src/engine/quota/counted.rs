//! What the server may still count against us, where one unit too many in a window locks us out.
//!
//! A server counts a request no later than when its reply is here. Who waits a whole window from then on
//! stays below the limit, however unsteadily requests and replies travel.

use std::time::Duration;

use crate::engine::quota::used::Used;
use crate::engine::{ClockStep, Timestamp};

/// The share by which a server's window may be longer than ours: clocks differ, and some count in ticks.
const MARGIN: f64 = 0.005;

/// The units answered in the last window.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Counted {
    used: Used,
    /// What was sent before is not known, or was sent by another process.
    begins: Timestamp,
}

/// A limit that no unit may exceed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Strict {
    pub(super) units: f64,
    pub(super) window: Duration,
}

impl Counted {
    /// Notes units that were answered, or given up.
    pub(super) fn answered(&mut self, units: f64, window: Duration, now: Timestamp) {
        self.used.note(units, now, now, window);
    }

    /// Notes how long a reply took.
    pub(super) fn took(&mut self, span: Duration) {
        self.used.took(span);
    }

    /// Another process may have sent until now.
    pub(super) fn share(&mut self, now: Timestamp) {
        self.begins = now;
    }

    /// Whether all that was sent in the last window is known.
    pub(super) fn is_whole(&self, window: Duration, now: Timestamp) -> bool {
        now.since(self.begins) > longer(window)
    }

    /// The clock was set by so much: what was answered is as old as it was.
    pub(super) fn move_by(&mut self, step: ClockStep) {
        self.begins = self.begins.shifted_by(step);
        self.used.move_by(step);
    }

    /// Returns until when `units` more are too many, with those in flight, of which any may be counted.
    pub(super) fn wait(
        &self,
        limit: Strict,
        units: f64,
        in_flight: f64,
        now: Timestamp,
    ) -> Option<Timestamp> {
        let window = longer(limit.window);
        if self.used.counted(window, now) + in_flight == 0.0 {
            // What is larger than the limit is tried alone.
            return None;
        }
        let room = limit.units - units - in_flight;
        // What is in flight must be answered first.
        let until = self.used.down_to(room, window, now).unwrap_or_else(|| now.after(window));
        (until > now).then_some(until)
    }
}

fn longer(window: Duration) -> Duration {
    window.mul_f64(1.0 + MARGIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Strict = Strict { units: 3.0, window: Duration::from_secs(10) };

    fn counted(answered: &[i64]) -> Counted {
        let mut counted = Counted::default();
        for at in answered {
            counted.answered(1.0, LIMIT.window, Timestamp(*at));
        }
        counted
    }

    #[test]
    fn a_unit_counts_for_a_window_from_its_reply_on() {
        let counted = counted(&[1000, 2000, 3000]);

        assert_eq!(counted.wait(LIMIT, 1.0, 0.0, Timestamp(4000)), Some(Timestamp(11_050)));
        assert_eq!(counted.wait(LIMIT, 2.0, 0.0, Timestamp(4000)), Some(Timestamp(12_050)));
        assert_eq!(counted.wait(LIMIT, 1.0, 0.0, Timestamp(11_050)), None);
    }

    #[test]
    fn what_is_in_flight_counts_too_and_lets_go_with_its_reply() {
        let counted = counted(&[1000]);

        assert_eq!(counted.wait(LIMIT, 1.0, 1.0, Timestamp(4000)), None);
        assert_eq!(counted.wait(LIMIT, 1.0, 2.0, Timestamp(4000)), Some(Timestamp(11_050)));
        assert_eq!(counted.wait(LIMIT, 1.0, 3.0, Timestamp(4000)), Some(Timestamp(14_050)));
    }

    #[test]
    fn a_request_larger_than_the_limit_goes_alone() {
        assert_eq!(counted(&[]).wait(LIMIT, 5.0, 0.0, Timestamp(0)), None);
        assert_eq!(
            counted(&[1000]).wait(LIMIT, 5.0, 0.0, Timestamp(4000)),
            Some(Timestamp(14_050))
        );
    }

    #[test]
    fn a_clock_that_is_set_back_makes_nothing_count_longer() {
        let mut counted = counted(&[100_000, 101_000, 102_000]);

        counted.move_by(ClockStep::between(Timestamp(60_000), Timestamp(0)).unwrap());

        assert_eq!(counted.wait(LIMIT, 1.0, 0.0, Timestamp(43_000)), Some(Timestamp(50_050)));
    }

    #[test]
    fn what_another_process_sent_is_unknown_for_a_window() {
        let mut counted = counted(&[]);
        counted.share(Timestamp(5000));

        assert!(!counted.is_whole(LIMIT.window, Timestamp(15_050)));
        assert!(counted.is_whole(LIMIT.window, Timestamp(15_051)));
    }
}
