//! Backoff schedule for throttled responses that name no time.

use std::time::Duration;

use crate::rate_limit::lock_out::LockOutSeries;
use crate::{ClockStep, RandomSample, Timestamp};

/// First delays, in seconds. The first one is short, because most limiters accept the next request
/// very soon, and one request too many costs less than a delay that is too long. The following
/// delays add up to the windows that are common for limits: 10 s, 30 s, one minute and two.
const STEPS_SECS: [u64; STEPS_COUNT as usize] = [1, 2, 7, 20, 30, 60, 120, LAST_STEP_SECS];

const STEPS_COUNT: u32 = 8;

const LAST_STEP_SECS: u64 = 300;
const LAST_STEP_DELAY: Duration = Duration::from_secs(LAST_STEP_SECS);

/// Number of short delays at the start of a series: next to a delay of minutes they cost little.
const SHORT_STEPS: u32 = 2;

/// Maximum number of series that skip the short delays after these have failed repeatedly.
const SHORT_SKIPS_MAX: u32 = 64;

/// Minimum delay after the steps.
const DELAY_AFTER_STEPS_MIN: Duration = Duration::from_secs(60);

/// For this long after the first throttle, the cause is probably a window of one hour. Many short
/// delays meet its end more closely than few long ones.
const HOURLY_WINDOW_PROBABLE_FOR: Duration = Duration::from_secs(3700);

/// Divisor of the time already waited that gives the next delay within that hour.
const WAITED_DIVISOR_IN_WINDOW: u32 = 10;

/// The same after that hour, when a lock-out is more probable. Every attempt may restart a
/// lock-out, so only longer delays end it.
const WAITED_DIVISOR_LATER: u32 = 4;

/// Jitter added to a delay, as a share (minimum, range), because clients that were throttled
/// together should not return together.
const JITTER: (f64, f64) = (0.02, 0.08);

/// Growing delays. A series starts with short ones, followed by the delay that last succeeded.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct ThrottleBackoff {
    /// Throttled responses since the last success.
    pub(super) attempts: u32,
    /// Step that last succeeded.
    pub(super) first_step: u32,
    /// Delay that last succeeded, if it was longer than all steps.
    pub(super) last_long_delay: Option<Duration>,
    /// Throttles that mean a lock-out, which have delays of their own.
    pub(super) lock_outs: LockOutSeries,
    /// Delay of the current attempt, without jitter.
    current_delay: Option<Duration>,
    /// Series left that skip the short delays, because these would probably fail again.
    short_skips_left: u32,
    /// Series that skip the short delays after the next failure of a short delay.
    short_skips_next: u32,
    started_at: Option<Timestamp>,
}

impl ThrottleBackoff {
    /// Returns the next delay, including jitter.
    pub(super) fn next_delay(
        &mut self,
        longest: Duration,
        now: Timestamp,
        sample: RandomSample,
    ) -> Duration {
        let waited = now.since(*self.started_at.get_or_insert(now));
        let step = self.step_index(self.attempts);
        self.attempts = self.attempts.saturating_add(1);
        let needs_long_delay = self.first_step + 1 >= STEPS_COUNT;
        let delay = match STEPS_SECS.get(step as usize) {
            // A delay that ended a lock-out before will probably end it again.
            None | Some(&LAST_STEP_SECS) if needs_long_delay => {
                self.last_long_delay.unwrap_or(LAST_STEP_DELAY).max(waited / WAITED_DIVISOR_LATER)
            }
            Some(&seconds) => Duration::from_secs(seconds),
            None if waited < HOURLY_WINDOW_PROBABLE_FOR => {
                (waited / WAITED_DIVISOR_IN_WINDOW).max(DELAY_AFTER_STEPS_MIN)
            }
            None => LAST_STEP_DELAY.max(waited / WAITED_DIVISOR_LATER),
        };
        let delay = delay.min(longest);
        self.current_delay = Some(delay);
        delay.mul_f64(1.0 + JITTER.0 + JITTER.1 * sample.fraction())
    }

    /// Continues the series of another process.
    pub(super) fn merge_from_peer(
        &mut self,
        first_step: u32,
        last_long_delay: Option<Duration>,
        attempts: u32,
        now: Timestamp,
    ) {
        self.first_step = first_step.min(STEPS_COUNT - 1);
        self.last_long_delay = last_long_delay;
        if self.attempts != attempts {
            self.current_delay = None;
        }
        self.attempts = attempts;
        self.started_at = self.started_at.or(Some(now)).filter(|_| attempts > 0);
    }

    /// Excludes an idle time from the time waited.
    pub(super) fn exclude_idle(&mut self, idle: Duration) {
        self.started_at = self.started_at.map(|started_at| started_at.after(idle));
    }

    /// Shifts all times by a clock step.
    pub(super) fn shift_by(&mut self, step: ClockStep) {
        self.lock_outs.shift_by(step);
        self.started_at = self.started_at.map(|started_at| started_at.shifted_by(step));
    }

    /// Records that a request after the delay was accepted.
    pub(super) fn record_success(&mut self) {
        if self.attempts == 0 {
            return;
        }
        let last = self.step_index(self.attempts - 1).min(STEPS_COUNT - 1);
        // A delay that another process tried is not known here.
        if let Some(delay) = self.current_delay.take() {
            self.last_long_delay = Some(delay).filter(|delay| *delay > LAST_STEP_DELAY);
        }
        match (self.starts_short(), self.attempts) {
            (true, attempts) if attempts <= SHORT_STEPS => {
                self.first_step = self.first_step.saturating_sub(2);
            }
            (true, _) => {
                // The short delays failed, which is costly where every attempt restarts a lock-out.
                self.short_skips_next =
                    self.short_skips_next.saturating_mul(2).clamp(1, SHORT_SKIPS_MAX);
                self.short_skips_left = self.short_skips_next;
                self.first_step = last;
            }
            (false, _) => {
                self.short_skips_left = self.short_skips_left.saturating_sub(1);
                self.first_step = last;
            }
        }
        self.attempts = 0;
        self.started_at = None;
    }

    fn step_index(&self, attempt: u32) -> u32 {
        if !self.starts_short() {
            self.first_step.saturating_add(attempt)
        } else if attempt < SHORT_STEPS {
            attempt
        } else {
            self.first_step.saturating_add(attempt - SHORT_STEPS).max(attempt)
        }
    }

    fn starts_short(&self) -> bool {
        self.short_skips_left == 0 && self.first_step > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    /// Returns the delays, in whole seconds, of a series that ends in success after
    /// `delay_count` delays.
    fn run_series(backoff: &mut ThrottleBackoff, delay_count: u32) -> Vec<u64> {
        let delays = (0..delay_count)
            .map(|_| backoff.next_delay(HOUR, Timestamp(0), RandomSample(0)).as_secs())
            .collect();
        backoff.record_success();
        delays
    }

    #[test]
    fn two_short_delays_come_before_the_last_successful_one() {
        let mut backoff = ThrottleBackoff::default();

        assert_eq!(run_series(&mut backoff, 5), [1, 2, 7, 20, 30]);
        assert_eq!(run_series(&mut backoff, 3), [1, 2, 30]);
    }

    #[test]
    fn futile_short_delays_are_skipped_for_ever_longer() {
        let mut backoff = ThrottleBackoff::default();
        run_series(&mut backoff, 5);

        let first_delays: Vec<u64> = (0..9)
            .map(|_| {
                let is_short = backoff.starts_short();
                run_series(&mut backoff, if is_short { 3 } else { 1 })[0]
            })
            .collect();

        assert_eq!(first_delays, [1, 30, 1, 30, 30, 1, 30, 30, 30]);
    }

    #[test]
    fn a_delay_beyond_all_steps_starts_the_next_long_series() {
        let mut backoff = ThrottleBackoff::default();
        let mut now = Timestamp(0);
        let mut next_delay = |backoff: &mut ThrottleBackoff| {
            let delay = backoff.next_delay(HOUR, now, RandomSample(0));
            now = now.after(delay);
            delay.as_secs()
        };
        // A lock-out of 15 minutes that every attempt restarts.
        while next_delay(&mut backoff) < 900 {}
        backoff.record_success();

        assert_eq!([next_delay(&mut backoff), next_delay(&mut backoff)], [1, 2]);
        let known = next_delay(&mut backoff);

        assert!((900..1200).contains(&known), "{known}");
        let mut restarted = ThrottleBackoff::default();
        restarted.merge_from_peer(
            backoff.first_step,
            backoff.last_long_delay,
            backoff.attempts,
            now,
        );
        assert!(restarted.next_delay(HOUR, now, RandomSample(0)).as_secs() >= known);
    }

    #[test]
    fn a_short_delay_that_succeeds_shortens_the_next_ones() {
        let mut backoff = ThrottleBackoff::default();
        run_series(&mut backoff, 5);
        run_series(&mut backoff, 1);

        assert_eq!(run_series(&mut backoff, 3), [1, 2, 7]);
    }
}
