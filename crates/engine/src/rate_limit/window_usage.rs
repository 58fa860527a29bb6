//! Upper bound of the units that the server may count in its window, for servers that lock a client
//! out for one unit too many.
//!
//! A server counts a request at the latest when its response has arrived. A client that waits one
//! whole window from then on stays below the limit, whatever the network latency.

use std::time::Duration;

use crate::rate_limit::spent_window::SpentWindow;
use crate::{ClockStep, Timestamp};

/// Share by which the server's window may be longer than ours: clocks differ, and some servers
/// count in ticks.
const WINDOW_MARGIN: f64 = 0.005;

/// Units whose responses arrived within the last window.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct WindowUsage {
    spent: SpentWindow,
    /// Time since which all requests are known; before, another process may have sent some.
    known_since: Timestamp,
}

/// Limit that must not be exceeded by a single unit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct HardLimit {
    pub(super) units: f64,
    pub(super) window: Duration,
}

impl WindowUsage {
    /// Records the units of a request that has ended, with or without a response.
    pub(super) fn record(&mut self, units: f64, window: Duration, now: Timestamp) {
        self.spent.record(units, now, now, window);
    }

    /// Records the time from a request to its response.
    pub(super) fn record_latency(&mut self, latency: Duration) {
        self.spent.record_latency(latency);
    }

    /// Records that another process may have sent requests until `now`.
    pub(super) fn mark_shared_until(&mut self, now: Timestamp) {
        self.known_since = now;
    }

    /// Returns true if all requests sent within the last window are known.
    pub(super) fn is_complete(&self, window: Duration, now: Timestamp) -> bool {
        now.since(self.known_since) > with_margin(window)
    }

    /// Shifts all times by a clock step, so that the age of the units stays the same.
    pub(super) fn shift_by(&mut self, step: ClockStep) {
        self.known_since = self.known_since.shifted_by(step);
        self.spent.shift_by(step);
    }

    /// Returns the time until which `units` more would be too many. Any unit in flight may be
    /// counted already.
    pub(super) fn wait_until(
        &self,
        limit: HardLimit,
        units: f64,
        in_flight: f64,
        now: Timestamp,
    ) -> Option<Timestamp> {
        let window = with_margin(limit.window);
        if self.spent.units_in_window(window, now) + in_flight == 0.0 {
            // A request larger than the limit is sent alone.
            return None;
        }
        let room = limit.units - units - in_flight;
        // If the units in flight alone exceed the limit, their requests must end first.
        let until = self.spent.falls_to_at(room, window, now).unwrap_or_else(|| now.after(window));
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

    fn usage_after(response_times: &[i64]) -> WindowUsage {
        let mut usage = WindowUsage::default();
        for at in response_times {
            usage.record(1.0, LIMIT.window, Timestamp(*at));
        }
        usage
    }

    #[test]
    fn a_unit_counts_for_one_window_after_its_response() {
        let usage = usage_after(&[1000, 2000, 3000]);

        assert_eq!(usage.wait_until(LIMIT, 1.0, 0.0, Timestamp(4000)), Some(Timestamp(11_050)));
        assert_eq!(usage.wait_until(LIMIT, 2.0, 0.0, Timestamp(4000)), Some(Timestamp(12_050)));
        assert_eq!(usage.wait_until(LIMIT, 1.0, 0.0, Timestamp(11_050)), None);
    }

    #[test]
    fn in_flight_units_count_until_their_response() {
        let usage = usage_after(&[1000]);

        assert_eq!(usage.wait_until(LIMIT, 1.0, 1.0, Timestamp(4000)), None);
        assert_eq!(usage.wait_until(LIMIT, 1.0, 2.0, Timestamp(4000)), Some(Timestamp(11_050)));
        assert_eq!(usage.wait_until(LIMIT, 1.0, 3.0, Timestamp(4000)), Some(Timestamp(14_050)));
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
        let mut usage = usage_after(&[100_000, 101_000, 102_000]);

        usage.shift_by(ClockStep::between(Timestamp(60_000), Timestamp(0)).unwrap());

        assert_eq!(usage.wait_until(LIMIT, 1.0, 0.0, Timestamp(43_000)), Some(Timestamp(50_050)));
    }

    #[test]
    fn usage_is_incomplete_for_a_window_after_a_peer() {
        let mut usage = usage_after(&[]);
        usage.mark_shared_until(Timestamp(5000));

        assert!(!usage.is_complete(LIMIT.window, Timestamp(15_050)));
        assert!(usage.is_complete(LIMIT.window, Timestamp(15_051)));
    }
}
