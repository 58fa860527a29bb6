//! What a bucket of a limit's would hold, by what was used and what replies say.

use crate::engine::Timestamp;
use crate::engine::quota::Rate;
use crate::engine::quota::window::Context;

/// Units at a moment. They come back evenly, so that a late reply takes none away.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Credit {
    units: f64,
    at: Timestamp,
}

impl Credit {
    pub(super) fn new(now: Timestamp) -> Self {
        Self { units: 0.0, at: now }
    }

    pub(super) fn spend(&mut self, units: f64) {
        self.units -= units;
    }

    /// Returns when it is up to `units`, of at most `full`.
    pub(super) fn up_to(self, units: f64, rate: Rate, full: f64, now: Timestamp) -> Timestamp {
        let lacking = units - self.held(rate, full, now);
        if lacking <= 1e-6 {
            return now;
        }
        now.after(Rate::per_second(rate.get() / lacking).interval())
    }

    /// Takes in that a reply leaves `left`, what is in flight taken off: a whole number, from some
    /// moment between request and reply, with what was in flight counted or not.
    pub(super) fn told(&mut self, left: f64, rate: Rate, full: f64, context: &Context) {
        let came_back = rate.get() * context.now.since(context.sent).as_secs_f64();
        let most = left + context.in_flight + 1.0 + came_back;
        let units = self.held(rate, full, context.now).clamp(left, most);
        *self = Self { units, at: context.now };
    }

    fn held(self, rate: Rate, full: f64, now: Timestamp) -> f64 {
        (self.units + rate.get() * now.since(self.at).as_secs_f64()).min(full)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FULL: f64 = 5.0;

    fn reply(sent: i64, now: i64) -> Context {
        Context {
            sent: Timestamp(sent),
            in_flight: 0.0,
            accepted: 1.0,
            is_accepted: true,
            reserve: 0.0,
            now: Timestamp(now),
        }
    }

    #[test]
    fn a_late_reply_takes_nothing_away_that_came_back_meanwhile() {
        let rate = Rate::per_second(1.0);
        let mut credit = Credit::new(Timestamp(0));
        credit.told(1.0, rate, FULL, &reply(0, 0));
        credit.spend(1.0);

        credit.told(0.0, rate, FULL, &reply(0, 600));

        assert_eq!(credit.up_to(1.0, rate, FULL, Timestamp(600)), Timestamp(1_000));
    }

    #[test]
    fn a_reply_that_leaves_less_than_could_be_counts() {
        let rate = Rate::per_second(1.0);
        let mut credit = Credit::new(Timestamp(0));
        credit.told(4.0, rate, FULL, &reply(0, 0));

        credit.told(0.0, rate, FULL, &reply(1_000, 1_000));

        assert_eq!(
            credit.up_to(2.0, rate, FULL, Timestamp(1_000)),
            Timestamp(2_000),
            "one more at most"
        );
    }
}
