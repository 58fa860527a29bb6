//! What a user decides about following a quota.

use std::time::Duration;

use crate::engine::rate_limit::Rate;

/// How much of the server's word, and of our own observation, sets the rate.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum RateLimitMode {
    /// The rate follows the headers, or is learned where there are none.
    Adaptive,
    /// The rate is the cap, and nothing is learned; holds are obeyed.
    Fixed,
    /// Nothing is paced or learned; holds are obeyed.
    Off,
}

/// The rules of one scope.
#[derive(Clone, Debug, PartialEq)]
pub struct RateLimitPolicy {
    pub mode: RateLimitMode,
    /// Never faster than this, whatever the server allows.
    pub cap: Option<Rate>,
    /// The share of the quota left to other clients, in `0.0..=0.9`.
    pub reserve: f64,
    /// A hold longer than this is worth an alert; a reset is not waited for longer before a try.
    pub max_wait: Duration,
    /// The first hold after a throttle that names no time, if a person chose one; it doubles while
    /// throttles follow. With none chosen, following finds it.
    pub initial_block: Option<Duration>,
}

/// The hold of those who do not look for it.
const DEFAULT_BLOCK: Duration = Duration::from_secs(300);

impl RateLimitPolicy {
    /// The first hold after a throttle that names no time; none where it is to be found.
    pub(super) fn configured_block(&self) -> Option<Duration> {
        match self.mode {
            RateLimitMode::Adaptive => self.initial_block,
            RateLimitMode::Fixed | RateLimitMode::Off => {
                Some(self.initial_block.unwrap_or(DEFAULT_BLOCK))
            }
        }
    }

    /// No hold is longer that the server did not name.
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
        }
    }
}
