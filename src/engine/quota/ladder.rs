//! How long to hold after a throttle that names no time.

use std::time::Duration;

use crate::engine::{Draw, Moment};

/// The first holds, in seconds. About doubling, at the round numbers that people give their
/// limits: the first is short, since most limiters accept the next request very soon, and one
/// request too many costs less than a hold too long.
const STEPS: [u64; STEPS_COUNT as usize] = [1, 2, 5, 10, 30, 60, 120, 300];

const STEPS_COUNT: u32 = 8;

const LAST: Duration = Duration::from_secs(STEPS[7]);

/// No hold after the steps is shorter.
const SHORTEST_LATER: Duration = Duration::from_secs(60);

/// For so long after the steps the cause is probably a window of an hour, to whose end many
/// short holds are closer than few long ones.
const WINDOW_PROBABLE: Duration = Duration::from_secs(3700);

/// The share of the time already waited that each hold then adds.
const SHARE_IN_WINDOW: u32 = 10;

/// Later a lock-out is more probable, which every try may begin anew: only longer holds end it.
const SHARE_LATER: u32 = 4;

/// Added to a hold, as a share: those who were throttled together should not return together.
const MARGIN: (f64, f64) = (0.02, 0.08);

/// Holds that grow while they fail, and begin where they last succeeded.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Ladder {
    /// Throttles since the last success.
    pub(super) tries: u32,
    /// The step to begin at.
    pub(super) from: u32,
    /// Series in a row that ended with their first hold.
    easy: u32,
    /// How many of them it takes to begin lower.
    patience: u32,
    began: Option<Moment>,
}

impl Ladder {
    /// Returns the next hold, jitter included.
    pub(super) fn next(&mut self, longest: Duration, now: Moment, draw: Draw) -> Duration {
        let waited = now.since(*self.began.get_or_insert(now));
        let step = self.from.saturating_add(self.tries);
        self.tries = self.tries.saturating_add(1);
        let hold = match STEPS.get(step as usize) {
            Some(&seconds) => Duration::from_secs(seconds),
            // What ended a lock-out before will probably end it again.
            None if self.from + 1 >= STEPS_COUNT => LAST.max(waited / SHARE_LATER),
            None if waited < WINDOW_PROBABLE => (waited / SHARE_IN_WINDOW).max(SHORTEST_LATER),
            None => LAST.max(waited / SHARE_LATER),
        };
        hold.min(longest).mul_f64(1.0 + MARGIN.0 + MARGIN.1 * draw.share())
    }

    /// Takes up a series where another process left it.
    pub(super) fn adopt(&mut self, from: u32, tries: u32, now: Moment) {
        self.from = from.min(STEPS_COUNT - 1);
        self.tries = tries;
        self.began = self.began.or(Some(now)).filter(|_| tries > 0);
    }

    /// A request after the hold was accepted.
    pub(super) fn succeeded(&mut self) {
        if self.tries == 0 {
            return;
        }
        let last = self.from.saturating_add(self.tries - 1);
        if self.tries == 1 {
            self.easy = self.easy.saturating_add(1);
            if self.easy > self.patience {
                self.from = self.from.saturating_sub(2);
                self.easy = 0;
            }
        } else {
            // Going lower was in vain, which is costly where every try begins a lock-out anew.
            self.patience = self.patience.saturating_mul(2).clamp(1, 64);
            self.easy = 0;
            self.from = last.min(STEPS_COUNT - 1);
        }
        self.tries = 0;
        self.began = None;
    }
}
