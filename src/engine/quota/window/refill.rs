//! Measures how fast a limit that trickles comes back.

use std::time::Duration;

use crate::engine::Timestamp;
use crate::engine::quota::Rate;
use crate::engine::quota::window::Context;

/// A refill is measured over spans at least this long.
const SPAN: Duration = Duration::from_secs(5);

/// The first measurement is wanted soon, and may be rough.
const SPAN_FIRST: Duration = Duration::from_secs(1);

/// How much a later measurement counts.
const WEIGHT: f64 = 0.3;

/// With more than this share left, what came back is no more than what was used.
const NEARLY_FULL: f64 = 0.5;

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Refill {
    rate: Option<Rate>,
    /// Where the measurement begins.
    at: Timestamp,
    remaining: f64,
    accepted: f64,
    /// Units that were used, of which nothing came back.
    pub(super) barren: f64,
    /// The measurement is of no use: nothing ran for a part of it.
    is_spoilt: bool,
}

impl Refill {
    pub(super) fn new(remaining: f64, context: &Context) -> Self {
        Self {
            rate: None,
            at: context.now,
            remaining,
            accepted: context.accepted,
            barren: 0.0,
            is_spoilt: false,
        }
    }

    pub(super) fn rate(&self) -> Option<Rate> {
        self.rate
    }

    /// Nothing ran for a while: a limit that was full long ago seems to come back slowly.
    pub(super) fn rested(&mut self) {
        self.is_spoilt = true;
    }

    pub(super) fn forget(&mut self) {
        self.rate = None;
    }

    /// Takes in what remains: what was granted and what more there is has come back meanwhile.
    pub(super) fn measure(
        &mut self,
        remaining: f64,
        quota: Option<f64>,
        trickles: bool,
        context: &Context,
    ) {
        let again = Self { rate: self.rate, ..Self::new(remaining, context) };
        if !context.is_accepted || !trickles || self.is_spoilt {
            *self = again;
            return;
        }
        let passed = context.now.since(self.at);
        if passed < if self.rate.is_none() { SPAN_FIRST } else { SPAN } {
            return;
        }
        let used = context.accepted - self.accepted;
        let came_back = used + remaining - self.remaining;
        let barren = self.barren + used;
        *self = again;
        if came_back <= 0.0 {
            self.barren = barren;
            return;
        }
        let seen = Rate::of(came_back, passed);
        let is_nearly_full = quota.is_some_and(|quota| remaining > NEARLY_FULL * quota);
        self.rate = Some(match self.rate {
            Some(rate) if is_nearly_full => rate.max(seen),
            Some(rate) => Rate::per_second(rate.get() * (1.0 - WEIGHT) + seen.get() * WEIGHT),
            None => seen,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(seconds: u64, accepted: f64) -> Context {
        let now = Timestamp(0).after(Duration::from_secs(seconds));
        Context { sent: now, in_flight: 0.0, accepted, is_accepted: true, reserve: 0.0, now }
    }

    /// FAULTS 52.
    #[test]
    fn a_limit_that_was_full_all_night_is_not_called_slow() {
        let mut refill = Refill::new(50.0, &after(0, 0.0));

        refill.rested();
        refill.measure(99.0, Some(100.0), true, &after(8 * 3600, 1.0));
        assert_eq!(refill.rate(), None);

        refill.measure(99.0, Some(100.0), true, &after(8 * 3600 + 10, 101.0));
        assert_eq!(refill.rate(), Some(Rate::per_second(10.0)));
    }
}
