//! What the server may still count against us, where one unit too many in a window locks us out.
//!
//! A server counts a request no later than when its reply is here. Who waits a whole window from then on
//! stays below the limit, however unsteadily requests and replies travel.

use std::time::Duration;

use crate::engine::rate_limit::spent_window::SpentWindow;
use crate::engine::{ClockStep, Timestamp};

/// The share by which a server's window may be longer than ours: clocks differ, and some count in ticks.
const WINDOW_MARGIN: f64 = 0.005;

/// The units answered in the last window.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct WindowUsage {
    spent: SpentWindow,
    /// What was sent before is not known, or was sent by another process.
    known_since: Timestamp,
}

/// A limit that no unit may exceed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct HardLimit {
    pub(super) units: f64,
    pub(super) window: Duration,
}

impl WindowUsage {
    /// Notes units that were answered, or given up.
    pub(super) fn record(&mut self, units: f64, window: Duration, now: Timestamp) {
        self.spent.record(units, now, now, window);
    }

    /// Notes how long a reply took.
    pub(super) fn record_latency(&mut self, span: Duration) {
        self.spent.record_latency(span);
    }

    /// Another process may have sent until now.
    pub(super) fn mark_shared_until(&mut self, now: Timestamp) {
        self.known_since = now;
    }

    /// Whether all that was sent in the last window is known.
    pub(super) fn is_complete(&self, window: Duration, now: Timestamp) -> bool {
        now.since(self.known_since) > with_margin(window)
    }

    /// The clock was set by so much: what was answered is as old as it was.
    pub(super) fn shift_by(&mut self, step: ClockStep) {
        self.known_since = self.known_since.shifted_by(step);
        self.spent.shift_by(step);
    }

    /// Returns until when `units` more are too many, with those in flight, of which any may be counted.
    pub(super) fn wait_until(
        &self,
        limit: HardLimit,
        units: f64,
        in_flight: f64,
        now: Timestamp,
    ) -> Option<Timestamp> {
        let window = with_margin(limit.window);
        if self.spent.units_in_window(window, now) + in_flight == 0.0 {
            // What is larger than the limit is tried alone.
            return None;
        }
        let room = limit.units - units - in_flight;
        // What is in flight must be answered first.
        let until =
            self.spent.drained_to_at(room, window, now).unwrap_or_else(|| now.after(window));
        (until > now).then_some(until)
    }
}

fn with_margin(window: Duration) -> Duration {
    window.mul_f64(1.0 + WINDOW_MARGIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: HardLimit = HardLimit { units: 3.0, window: Duration::from_secs(10) };

    fn usage_after(answered: &[i64]) -> WindowUsage {
        let mut counted = WindowUsage::default();
        for at in answered {
            counted.record(1.0, LIMIT.window, Timestamp(*at));
        }
        counted
    }

    #[test]
    fn a_unit_counts_for_one_window_after_its_reply() {
        let counted = usage_after(&[1000, 2000, 3000]);

        assert_eq!(counted.wait_until(LIMIT, 1.0, 0.0, Timestamp(4000)), Some(Timestamp(11_050)));
        assert_eq!(counted.wait_until(LIMIT, 2.0, 0.0, Timestamp(4000)), Some(Timestamp(12_050)));
        assert_eq!(counted.wait_until(LIMIT, 1.0, 0.0, Timestamp(11_050)), None);
    }

    #[test]
    fn in_flight_units_count_until_their_reply() {
        let counted = usage_after(&[1000]);

        assert_eq!(counted.wait_until(LIMIT, 1.0, 1.0, Timestamp(4000)), None);
        assert_eq!(counted.wait_until(LIMIT, 1.0, 2.0, Timestamp(4000)), Some(Timestamp(11_050)));
        assert_eq!(counted.wait_until(LIMIT, 1.0, 3.0, Timestamp(4000)), Some(Timestamp(14_050)));
    }

    #[test]
    fn a_request_larger_than_the_limit_goes_alone() {
        assert_eq!(usage_after(&[]).wait_until(LIMIT, 5.0, 0.0, Timestamp(0)), None);
        assert_eq!(
            usage_after(&[1000]).wait_until(LIMIT, 5.0, 0.0, Timestamp(4000)),
            Some(Timestamp(14_050))
        );
    }

    #[test]
    fn clock_set_back_does_not_make_units_count_longer() {
        let mut counted = usage_after(&[100_000, 101_000, 102_000]);

        counted.shift_by(ClockStep::between(Timestamp(60_000), Timestamp(0)).unwrap());

        assert_eq!(counted.wait_until(LIMIT, 1.0, 0.0, Timestamp(43_000)), Some(Timestamp(50_050)));
    }

    #[test]
    fn usage_is_incomplete_for_a_window_after_a_peer() {
        let mut counted = usage_after(&[]);
        counted.mark_shared_until(Timestamp(5000));

        assert!(!counted.is_complete(LIMIT.window, Timestamp(15_050)));
        assert!(counted.is_complete(LIMIT.window, Timestamp(15_051)));
    }
}
