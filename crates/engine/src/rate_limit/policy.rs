//! Rate-limit policy that the user configures.

use std::time::Duration;

use crate::rate_limit::Rate;

/// Source of the rate: headers and observation, a fixed cap, or none.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum RateLimitMode {
    /// The rate follows the headers, or is estimated if there are none.
    Adaptive,
    /// The rate is the cap, and nothing is estimated; blocks are obeyed.
    Fixed,
    /// Nothing is paced or estimated; blocks are obeyed.
    Off,
}

/// Policy of one scope.
#[derive(Clone, Debug, PartialEq)]
pub struct RateLimitPolicy {
    pub mode: RateLimitMode,
    /// Maximum rate, whatever the server allows.
    pub cap: Option<Rate>,
    /// Share of the limit left to other clients, in `0.0..=0.9`.
    pub reserve: f64,
    /// A longer block is worth an alert. A wait for a reset ends after this time with an attempt.
    pub max_wait: Duration,
    /// First block after a throttle that names no time, if configured; it doubles with each further
    /// throttle. If `None`, the adaptive mode determines it.
    pub initial_block: Option<Duration>,
    /// Rate from which the limit of an unknown server is looked for.
    pub slow_start_rate: Rate,
    /// Bytes that may be received in any 24 hours, if the user limits them; in every mode.
    pub bytes_per_day: Option<u64>,
}

/// First block in the modes that do not determine it.
const DEFAULT_BLOCK: Duration = Duration::from_secs(300);

/// Units per second from which an unknown limit is looked for: fast in half a second, and cheap at a
/// slow server.
const DEFAULT_SLOW_START_RATE: f64 = 50.0;

impl RateLimitPolicy {
    /// Returns the first block after a throttle that names no time, or `None` if it is determined.
    pub(super) fn configured_block(&self) -> Option<Duration> {
        match self.mode {
            RateLimitMode::Adaptive => self.initial_block,
            RateLimitMode::Fixed | RateLimitMode::Off => {
                Some(self.initial_block.unwrap_or(DEFAULT_BLOCK))
            }
        }
    }

    /// Returns the maximum length of a block that the server did not name.
    pub(super) fn max_block(&self) -> Duration {
        self.max_wait.max(self.configured_block().unwrap_or_default())
    }
}

impl Default for RateLimitPolicy {
    fn default() -> Self {
        Self {
            mode: RateLimitMode::Adaptive,
            cap: None,
            reserve: 0.0,
            max_wait: Duration::from_secs(3600),
            initial_block: None,
            slow_start_rate: Rate::per_second(DEFAULT_SLOW_START_RATE),
            bytes_per_day: None,
        }
    }
}
