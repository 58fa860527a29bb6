//! Attempts and delays of a retry policy. Pure: the random sample is an argument.

use std::time::Duration;

use cynosure_engine::{RandomSample, exponential_seconds};

/// Number of attempts, delays and jitter of a retry policy.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BackoffConfig {
    /// Maximum number of attempts, including the first; 0 counts as 1.
    pub max_attempts: u32,
    /// Delay before the first retry, before `backoff_factor` and jitter are applied.
    pub base_delay: Duration,
    /// Maximum of the computed delay. A longer retry-after of the server is still respected.
    pub max_delay: Duration,
    /// Ratio of each delay to the previous one; at least 1.
    pub multiplier: f64,
    /// Factor applied to every delay: 2.0 doubles it, 0.5 halves it.
    pub backoff_factor: f64,
    pub jitter: Jitter,
}

/// Random spread of the delays, so that calls which failed together do not retry together.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Jitter {
    /// No jitter, for calls that do not compete with others.
    None,
    /// Uniform between zero and the whole delay. Spreads many callers best (M. Brooker,
    /// "Exponential Backoff And Jitter", AWS Architecture Blog, 2015).
    Full,
    /// Up to this fraction of the delay more or less, in `0.0..=1.0`.
    Proportional(f64),
}

impl BackoffConfig {
    /// Preset for failures that usually pass at once: three attempts, 0.5 s growing to 10 s.
    pub const FAST: Self = Self::preset(3, 500, 10);

    /// Preset for failures that last for a restart of the server: four attempts, 1 s
    /// growing to 30 s.
    pub const MODERATE: Self = Self::preset(4, 1_000, 30);

    /// Preset for servers that need sparing use: three attempts, 2 s growing to 60 s.
    pub const STRICT: Self = Self::preset(3, 2_000, 60);

    const fn preset(max_attempts: u32, base_millis: u64, max_seconds: u64) -> Self {
        Self {
            max_attempts,
            base_delay: Duration::from_millis(base_millis),
            max_delay: Duration::from_secs(max_seconds),
            multiplier: 2.0,
            backoff_factor: 1.0,
            jitter: Jitter::Proportional(0.3),
        }
    }

    /// Returns the delay before the `retry`-th retry (from 1).
    ///
    /// It is `min(backoff_factor × base_delay × multiplier^(retry − 1), max_delay)`, spread by the
    /// jitter but never above `max_delay`. It is never below the server's `retry_after`,
    /// however long. The factor scales the whole series, as `backoff_factor` of urllib3's `Retry`
    /// does.
    #[must_use]
    pub fn delay(
        &self,
        retry: u32,
        retry_after: Option<Duration>,
        sample: RandomSample,
    ) -> Duration {
        let cap = self.max_delay.as_secs_f64();
        let base = self.base_delay.as_secs_f64() * self.backoff_factor.max(0.0);
        let multiplier = self.multiplier.max(1.0);
        let grown = exponential_seconds(base, multiplier, retry.saturating_sub(1), cap);
        let spread = match self.jitter {
            Jitter::None => grown,
            Jitter::Full => grown * sample.fraction(),
            Jitter::Proportional(share) => {
                grown * (1.0 + share.clamp(0.0, 1.0) * (2.0 * sample.fraction() - 1.0))
            }
        };
        let computed = Duration::try_from_secs_f64(spread).unwrap_or(self.max_delay);
        computed.min(self.max_delay).max(retry_after.unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MID_SAMPLE: RandomSample = RandomSample(u32::MAX / 2 + 1);

    fn millis(config: &BackoffConfig, sample: RandomSample) -> Vec<u128> {
        (1..=7).map(|retry| config.delay(retry, None, sample).as_millis()).collect()
    }

    #[test]
    fn the_presets_grow_from_their_base_to_their_cap() {
        assert_eq!(
            millis(&BackoffConfig::FAST, MID_SAMPLE),
            [500, 1000, 2000, 4000, 8000, 10_000, 10_000]
        );
        assert_eq!(
            millis(&BackoffConfig::MODERATE, MID_SAMPLE),
            [1000, 2000, 4000, 8000, 16_000, 30_000, 30_000]
        );
        assert_eq!(
            millis(&BackoffConfig::STRICT, MID_SAMPLE),
            [2000, 4000, 8000, 16_000, 32_000, 60_000, 60_000]
        );
        let attempts = [BackoffConfig::FAST, BackoffConfig::MODERATE, BackoffConfig::STRICT]
            .map(|config| config.max_attempts);
        assert_eq!(attempts, [3, 4, 3]);
    }

    #[test]
    fn backoff_factor_scales_every_delay() {
        let config =
            BackoffConfig { backoff_factor: 0.5, jitter: Jitter::None, ..BackoffConfig::FAST };

        assert_eq!(millis(&config, MID_SAMPLE), [250, 500, 1000, 2000, 4000, 8000, 10_000]);
    }

    #[test]
    fn jitter_spreads_within_its_bounds() {
        let delay = |jitter, sample| {
            BackoffConfig { jitter, ..BackoffConfig::FAST }
                .delay(2, None, RandomSample(sample))
                .as_millis()
        };

        assert_eq!((delay(Jitter::None, 0), delay(Jitter::None, u32::MAX)), (1000, 1000));
        assert_eq!((delay(Jitter::Full, 0), delay(Jitter::Full, u32::MAX)), (0, 1000));
        assert_eq!(
            (delay(Jitter::Proportional(0.3), 0), delay(Jitter::Proportional(0.3), u32::MAX)),
            (700, 1300)
        );
    }
}

#[cfg(test)]
mod proptests {
    use proptest::prelude::*;

    use super::*;

    fn jitter() -> impl Strategy<Value = Jitter> {
        prop_oneof![
            Just(Jitter::None),
            Just(Jitter::Full),
            (0.0..=1.0_f64).prop_map(Jitter::Proportional)
        ]
    }

    fn backoff_config() -> impl Strategy<Value = BackoffConfig> {
        let number = prop::num::f64::ANY;
        (0..u64::MAX, 0..u64::MAX, number, number, jitter()).prop_map(
            |(base, max, multiplier, backoff_factor, jitter)| BackoffConfig {
                max_attempts: 3,
                base_delay: Duration::from_millis(base),
                max_delay: Duration::from_millis(max),
                multiplier,
                backoff_factor,
                jitter,
            },
        )
    }

    proptest! {
        #[test]
        fn computed_delay_is_never_above_the_cap(
            config in backoff_config(), retry: u32, sample: u32
        ) {
            prop_assert!(config.delay(retry, None, RandomSample(sample)) <= config.max_delay);
        }

        #[test]
        fn delay_is_never_below_retry_after(
            config in backoff_config(), retry: u32, sample: u32, retry_after: u64
        ) {
            let retry_after = Duration::from_millis(retry_after);
            let delay = config.delay(retry, Some(retry_after), RandomSample(sample));
            prop_assert!(delay >= retry_after);
        }

        #[test]
        fn later_delays_are_never_shorter(
            config in backoff_config(), retry in 1..u32::MAX, sample: u32
        ) {
            let delay = |retry| config.delay(retry, None, RandomSample(sample));
            prop_assert!(delay(retry) <= delay(retry + 1));
        }

        #[test]
        fn proportional_jitter_stays_within_its_share(
            share in 0.0..=1.0_f64, retry in 1..9_u32, sample: u32
        ) {
            let plain = BackoffConfig { jitter: Jitter::None, ..BackoffConfig::STRICT };
            let spread = BackoffConfig { jitter: Jitter::Proportional(share), ..BackoffConfig::STRICT };
            let plain = plain.delay(retry, None, RandomSample(sample)).as_secs_f64();
            let spread = spread.delay(retry, None, RandomSample(sample)).as_secs_f64();
            prop_assert!((spread - plain).abs() <= plain * share + 1e-6);
        }
    }
}
