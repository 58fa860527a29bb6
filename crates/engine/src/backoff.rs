//! Exponential backoff: the delay after a failure, and the two forms of the formula.

use std::time::Duration;

use crate::{Cause, RandomSample};

/// Safety margin added to a Retry-After: clocks differ, and late is better than early.
pub const RETRY_AFTER_MARGIN: Duration = Duration::from_secs(1);

/// Largest jitter added to a Retry-After, so that clients with the same one do not retry together.
pub const RETRY_AFTER_JITTER: Duration = Duration::from_secs(1);

/// Backoff policy, with one base delay per kind of cause.
#[derive(Clone, Debug, PartialEq)]
pub struct Backoff {
    pub transient: Duration,
    pub rate_limit: Duration,
    pub proxy: Duration,
    pub challenge: Duration,
    pub source_down: Duration,
    pub unknown: Duration,
    /// Factor between consecutive delays; at least 1.
    pub multiplier: f64,
    /// Longest computed delay. A Retry-After may be longer.
    pub max_delay: Duration,
    /// Jitter as a fraction of the base delay, in `0.0..=1.0`.
    pub jitter: f64,
    /// Maximum number of times that a delay grows.
    pub max_doublings: u32,
}

impl Backoff {
    /// Returns the delay after the `attempt`-th failure in a row (from 1).
    ///
    /// `min(base(cause) × multiplier^(attempt − 1), max_delay)`, growing at most
    /// `max_doublings` times, ± `jitter` of the base, never above `max_delay`; and
    /// never below the server's Retry-After, however long.
    #[must_use]
    pub fn delay(
        &self,
        cause: Cause,
        attempt: u32,
        retry_after: Option<Duration>,
        sample: RandomSample,
    ) -> Duration {
        let base = self.base_delay(cause).as_secs_f64();
        let exponent = attempt.saturating_sub(1).min(self.max_doublings);
        let cap = self.max_delay.as_secs_f64();
        let grown = exponential_seconds(base, self.multiplier, exponent, cap);
        let jitter = base * self.jitter * (2.0 * sample.fraction() - 1.0);
        let computed = Duration::from_secs_f64((grown + jitter).clamp(0.0, cap));

        match retry_after {
            Some(retry_after) => computed.max(retry_after_with_margin(retry_after, sample)),
            None => computed,
        }
    }

    /// Returns the first delay after a failure of this cause, before jitter.
    #[must_use]
    pub fn base_delay(&self, cause: Cause) -> Duration {
        match cause {
            Cause::RateLimit => self.rate_limit,
            Cause::Server
            | Cause::Connection
            | Cause::Tls
            | Cause::Timeout
            | Cause::Truncated
            | Cause::LocalNetwork
            | Cause::Storage
            | Cause::Ledger
            | Cause::ListingIncomplete => self.transient,
            Cause::Challenge => self.challenge,
            Cause::Proxy => self.proxy,
            Cause::NotFound | Cause::CursorExpired => self.source_down,
            Cause::Unauthorized
            | Cause::AccountChanged
            | Cause::Forbidden
            | Cause::TooLarge
            | Cause::Unknown => self.unknown,
        }
    }
}

/// Returns `base × multiplier^exponent`, at most `cap`. The base, the cap and the result are in
/// seconds, so that jitter is added before rounding to nanoseconds.
#[must_use]
pub fn exponential_seconds(base: f64, multiplier: f64, exponent: u32, cap: f64) -> f64 {
    // Zero times infinity is NaN; `min` then returns the cap.
    (base * multiplier.powf(f64::from(exponent))).min(cap)
}

/// Returns `base × 2^doublings`, at most `max`. Computed in whole nanoseconds, without rounding.
#[must_use]
pub fn doubled_delay(base: Duration, doublings: u32, max: Duration) -> Duration {
    base.saturating_mul(2_u32.saturating_pow(doublings)).min(max)
}

/// Returns a Retry-After plus margin and jitter, so that the retry is not early.
#[must_use]
pub(super) fn retry_after_with_margin(retry_after: Duration, sample: RandomSample) -> Duration {
    retry_after
        .saturating_add(RETRY_AFTER_MARGIN)
        .saturating_add(RETRY_AFTER_JITTER.mul_f64(sample.fraction()))
}

#[cfg(test)]
pub(crate) const DEFAULTS: Backoff = Backoff {
    transient: Duration::from_secs(60),
    rate_limit: Duration::from_secs(600),
    proxy: Duration::from_secs(300),
    challenge: Duration::from_secs(900),
    source_down: Duration::from_secs(3600),
    unknown: Duration::from_secs(300),
    multiplier: 2.0,
    max_delay: Duration::from_secs(3600),
    jitter: 0.3,
    max_doublings: 5,
};

#[cfg(test)]
mod tests {
    use super::*;

    const MEDIAN_SAMPLE: RandomSample = RandomSample(u32::MAX / 2 + 1);

    #[test]
    fn a_doubled_delay_stops_at_its_maximum() {
        let delay = |doublings| {
            doubled_delay(Duration::from_secs(10), doublings, Duration::from_secs(300)).as_secs()
        };
        assert_eq!([0, 1, 4, 5, 40, u32::MAX].map(delay), [10, 20, 160, 300, 300, 300]);
    }

    #[test]
    fn delays_double_up_to_the_cap() {
        let delays: Vec<_> = (1..=8)
            .map(|attempt| DEFAULTS.delay(Cause::Server, attempt, None, MEDIAN_SAMPLE).as_secs())
            .collect();

        assert_eq!(delays, [60, 120, 240, 480, 960, 1920, 1920, 1920]);
    }

    #[test]
    fn jitter_is_a_fraction_of_the_base_both_ways() {
        assert_eq!(DEFAULTS.delay(Cause::Server, 3, None, RandomSample(0)).as_secs(), 222);
        assert_eq!(DEFAULTS.delay(Cause::Server, 3, None, RandomSample(u32::MAX)).as_secs(), 258);
    }
}

#[cfg(test)]
mod proptests {
    use super::*;
    use proptest::prelude::*;

    fn cause() -> impl Strategy<Value = Cause> {
        prop::sample::select(Cause::ALL.to_vec())
    }

    fn backoff() -> impl Strategy<Value = Backoff> {
        (0..100_000_u64, 0..1_000_000_u64, 1.0..1e9_f64, 0.0..=1.0_f64, any::<u32>()).prop_map(
            |(base, cap, multiplier, jitter, max_doublings)| Backoff {
                transient: Duration::from_millis(base),
                rate_limit: Duration::from_secs(base),
                multiplier,
                max_delay: Duration::from_secs(cap),
                jitter,
                max_doublings,
                ..DEFAULTS
            },
        )
    }

    proptest! {
        #[test]
        fn a_delay_is_never_below_retry_after(
            backoff in backoff(),
            cause in cause(),
            attempt: u32,
            retry_after in 0..u64::MAX,
            sample: u32,
        ) {
            let retry_after = Duration::from_millis(retry_after);
            let delay = backoff.delay(cause, attempt, Some(retry_after), RandomSample(sample));
            prop_assert!(delay >= retry_after);
        }

        #[test]
        fn a_computed_delay_is_never_above_the_cap(
            backoff in backoff(), cause in cause(), attempt: u32, sample: u32
        ) {
            let delay = backoff.delay(cause, attempt, None, RandomSample(sample));
            prop_assert!(delay <= backoff.max_delay);
        }

        #[test]
        fn a_later_attempt_never_waits_less(
            backoff in backoff(), cause in cause(), attempt in 1..u32::MAX, sample: u32
        ) {
            let (delay, next_delay) = (
                backoff.delay(cause, attempt, None, RandomSample(sample)),
                backoff.delay(cause, attempt + 1, None, RandomSample(sample)),
            );
            prop_assert!(next_delay >= delay);
        }
    }

    #[test]
    fn the_attempt_number_two_to_the_31_does_not_overflow() {
        let backoff = Backoff { max_doublings: u32::MAX, multiplier: 1e300, ..DEFAULTS };

        assert_eq!(
            backoff.delay(Cause::Server, 1 << 31, None, RandomSample(u32::MAX)),
            backoff.max_delay
        );
    }
}
