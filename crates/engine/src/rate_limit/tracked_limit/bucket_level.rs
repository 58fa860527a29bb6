//! Estimated level of the server's token bucket, from the units spent and the responses.

use crate::Timestamp;
use crate::rate_limit::rate::Rate;
use crate::rate_limit::response_context::ResponseContext;

/// Units at a point in time. They refill evenly, so a late response does not lower the level.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct BucketLevel {
    units: f64,
    measured_at: Timestamp,
}

impl BucketLevel {
    pub(super) fn new(now: Timestamp) -> Self {
        Self { units: 0.0, measured_at: now }
    }

    pub(super) fn spend(&mut self, units: f64) {
        self.units -= units;
    }

    /// Returns the time at which the level reaches `units`, with this `capacity`.
    pub(super) fn reaches_at(
        self,
        units: f64,
        rate: Rate,
        capacity: f64,
        now: Timestamp,
    ) -> Timestamp {
        let lacking = units - self.level_at(rate, capacity, now);
        if lacking <= 1e-6 {
            return now;
        }
        now.after(Rate::per_second(rate.get() / lacking).interval())
    }

    /// Corrects the level by a response that leaves `remaining` units, after subtracting those in
    /// flight. The server reports a whole number, from any time between request and response, and
    /// may or may not have counted the requests in flight.
    pub(super) fn update(
        &mut self,
        remaining: f64,
        rate: Rate,
        capacity: f64,
        context: &ResponseContext,
    ) {
        let refilled = rate.get() * context.now.since(context.sent_at).as_secs_f64();
        let units_max = remaining + context.in_flight + 1.0 + refilled;
        let units = self.level_at(rate, capacity, context.now).clamp(remaining, units_max);
        *self = Self { units, measured_at: context.now };
    }

    fn level_at(self, rate: Rate, capacity: f64, now: Timestamp) -> f64 {
        (self.units + rate.get() * now.since(self.measured_at).as_secs_f64()).min(capacity)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CAPACITY: f64 = 5.0;

    fn response_context(sent: i64, now: i64) -> ResponseContext {
        ResponseContext {
            sent_at: Timestamp(sent),
            in_flight: 0.0,
            accepted_units: 1.0,
            is_accepted: true,
            reserve: 0.0,
            now: Timestamp(now),
        }
    }

    #[test]
    fn late_response_does_not_remove_refilled_units() {
        let rate = Rate::per_second(1.0);
        let mut level = BucketLevel::new(Timestamp(0));
        level.update(1.0, rate, CAPACITY, &response_context(0, 0));
        level.spend(1.0);

        level.update(0.0, rate, CAPACITY, &response_context(0, 600));

        assert_eq!(level.reaches_at(1.0, rate, CAPACITY, Timestamp(600)), Timestamp(1_000));
    }

    #[test]
    fn a_lower_reported_level_is_taken_over() {
        let rate = Rate::per_second(1.0);
        let mut level = BucketLevel::new(Timestamp(0));
        level.update(4.0, rate, CAPACITY, &response_context(0, 0));

        level.update(0.0, rate, CAPACITY, &response_context(1_000, 1_000));

        assert_eq!(
            level.reaches_at(2.0, rate, CAPACITY, Timestamp(1_000)),
            Timestamp(2_000),
            "one more at most"
        );
    }
}
