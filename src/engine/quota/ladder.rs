//! How long to hold after a throttle that names no time.

use std::time::Duration;

use crate::engine::{ClockStep, RandomSample, Timestamp};

/// The first holds, in seconds. The first is short, since most limiters accept the next request very
/// soon, and one request too many costs less than a hold too long. Added up, those that follow end with
/// the windows that people give their limits: 10 s, 30 s, one minute and two.
const STEPS: [u64; STEPS_COUNT as usize] = [1, 2, 7, 20, 30, 60, 120, LAST_STEP];

const STEPS_COUNT: u32 = 8;

const LAST_STEP: u64 = 300;
const LAST: Duration = Duration::from_secs(LAST_STEP);

/// So many short holds come first: next to a hold of minutes they cost little.
const SHORT: u32 = 2;

/// Series without a short hold at their beginning, once such holds were in vain again and again.
const PATIENCE_MAX: u32 = 64;

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

/// Holds that grow while they fail. Short ones come first, then the one that last succeeded.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Ladder {
    /// Throttles since the last success.
    pub(super) tries: u32,
    /// The step that last succeeded.
    pub(super) from: u32,
    /// The hold that last succeeded, where it was longer than all steps.
    pub(super) longer: Option<Duration>,
    /// The hold that is being tried, without jitter.
    hold: Option<Duration>,
    /// Series that are to begin with that step, since a short hold is probably in vain.
    wary: u32,
    /// How many such series a short hold in vain leads to.
    patience: u32,
    began: Option<Timestamp>,
}

impl Ladder {
    /// Returns the next hold, jitter included.
    pub(super) fn next(
        &mut self,
        longest: Duration,
        now: Timestamp,
        draw: RandomSample,
    ) -> Duration {
        let waited = now.since(*self.began.get_or_insert(now));
        let step = self.step(self.tries);
        self.tries = self.tries.saturating_add(1);
        let is_known = self.from + 1 >= STEPS_COUNT;
        let hold = match STEPS.get(step as usize) {
            // What ended a lock-out before will probably end it again.
            None | Some(&LAST_STEP) if is_known => {
                self.longer.unwrap_or(LAST).max(waited / SHARE_LATER)
            }
            Some(&seconds) => Duration::from_secs(seconds),
            None if waited < WINDOW_PROBABLE => (waited / SHARE_IN_WINDOW).max(SHORTEST_LATER),
            None => LAST.max(waited / SHARE_LATER),
        };
        let hold = hold.min(longest);
        self.hold = Some(hold);
        hold.mul_f64(1.0 + MARGIN.0 + MARGIN.1 * draw.fraction())
    }

    /// Takes up a series where another process left it.
    pub(super) fn adopt(
        &mut self,
        from: u32,
        longer: Option<Duration>,
        tries: u32,
        now: Timestamp,
    ) {
        self.from = from.min(STEPS_COUNT - 1);
        self.longer = longer;
        if self.tries != tries {
            self.hold = None;
        }
        self.tries = tries;
        self.began = self.began.or(Some(now)).filter(|_| tries > 0);
    }

    /// Nothing ran for so long: it is no part of what was waited.
    pub(super) fn rested(&mut self, rest: Duration) {
        self.began = self.began.map(|began| began.after(rest));
    }

    /// The clock was set by so much.
    pub(super) fn move_by(&mut self, step: ClockStep) {
        self.began = self.began.map(|began| began.shifted_by(step));
    }

    /// A request after the hold was accepted.
    pub(super) fn succeeded(&mut self) {
        if self.tries == 0 {
            return;
        }
        let last = self.step(self.tries - 1).min(STEPS_COUNT - 1);
        // One that another process tried is not known.
        if let Some(hold) = self.hold.take() {
            self.longer = Some(hold).filter(|hold| *hold > LAST);
        }
        match (self.begins_short(), self.tries) {
            (true, tries) if tries <= SHORT => self.from = self.from.saturating_sub(2),
            (true, _) => {
                // It was in vain, which is costly where every try begins a lock-out anew.
                self.patience = self.patience.saturating_mul(2).clamp(1, PATIENCE_MAX);
                self.wary = self.patience;
                self.from = last;
            }
            (false, _) => {
                self.wary = self.wary.saturating_sub(1);
                self.from = last;
            }
        }
        self.tries = 0;
        self.began = None;
    }

    fn step(&self, tries: u32) -> u32 {
        if !self.begins_short() {
            self.from.saturating_add(tries)
        } else if tries < SHORT {
            tries
        } else {
            self.from.saturating_add(tries - SHORT).max(tries)
        }
    }

    fn begins_short(&self) -> bool {
        self.wary == 0 && self.from > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    /// Returns the holds, in whole seconds, of a series that so many holds end.
    fn series(ladder: &mut Ladder, holds: u32) -> Vec<u64> {
        let found = (0..holds)
            .map(|_| ladder.next(HOUR, Timestamp(0), RandomSample(0)).as_secs())
            .collect();
        ladder.succeeded();
        found
    }

    #[test]
    fn two_short_holds_come_before_the_one_that_last_succeeded() {
        let mut ladder = Ladder::default();

        assert_eq!(series(&mut ladder, 5), [1, 2, 7, 20, 30]);
        assert_eq!(series(&mut ladder, 3), [1, 2, 30]);
    }

    #[test]
    fn short_holds_in_vain_are_left_out_for_longer_and_longer() {
        let mut ladder = Ladder::default();
        series(&mut ladder, 5);

        let begins: Vec<u64> = (0..9)
            .map(|_| {
                let is_short = ladder.begins_short();
                series(&mut ladder, if is_short { 3 } else { 1 })[0]
            })
            .collect();

        assert_eq!(begins, [1, 30, 1, 30, 30, 1, 30, 30, 30]);
    }

    #[test]
    fn a_hold_longer_than_all_steps_is_the_first_long_one_of_the_next_series() {
        let mut ladder = Ladder::default();
        let mut now = Timestamp(0);
        let mut hold = |ladder: &mut Ladder| {
            let hold = ladder.next(HOUR, now, RandomSample(0));
            now = now.after(hold);
            hold.as_secs()
        };
        // A lock-out of a quarter of an hour, which every try begins anew.
        while hold(&mut ladder) < 900 {}
        ladder.succeeded();

        assert_eq!([hold(&mut ladder), hold(&mut ladder)], [1, 2]);
        let known = hold(&mut ladder);

        assert!((900..1200).contains(&known), "{known}");
        let mut restarted = Ladder::default();
        restarted.adopt(ladder.from, ladder.longer, ladder.tries, now);
        assert!(restarted.next(HOUR, now, RandomSample(0)).as_secs() >= known);
    }

    #[test]
    fn a_short_hold_that_succeeds_makes_the_next_ones_shorter() {
        let mut ladder = Ladder::default();
        series(&mut ladder, 5);
        series(&mut ladder, 1);

        assert_eq!(series(&mut ladder, 3), [1, 2, 7]);
    }
}
