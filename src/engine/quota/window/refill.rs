//! Measures how fast a limit that trickles comes back.

use std::time::Duration;

use crate::engine::Moment;
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
    at: Moment,
    remaining: f64,
    accepted: f64,
    /// Units that were used, of which nothing came back.
    pub(super) barren: f64,
}

impl Refill {
    pub(super) fn new(remaining: f64, context: &Context) -> Self {
        Self { rate: None, at: context.now, remaining, accepted: context.accepted, barren: 0.0 }
    }

    pub(super) fn rate(&self) -> Option<Rate> {
        self.rate
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
        if !context.is_accepted || !trickles {
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
