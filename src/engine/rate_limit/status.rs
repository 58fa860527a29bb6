//! What was understood of a quota, for people and metrics.

use crate::engine::Timestamp;
use crate::engine::rate_limit::{AdvertisedLimit, Block, Rate, RateLimitMode};

/// Where a scope stands.
#[derive(Clone, Debug, PartialEq)]
pub struct RateLimitStatus {
    pub mode: RateLimitMode,
    /// The gate, if it is closed or proving.
    pub block: Option<Block>,
    /// The limits as last read from headers.
    pub limits: Vec<AdvertisedLimit>,
    /// The rate in force; none: nothing is paced.
    pub rate: Option<Rate>,
    pub rate_source: RateSource,
    /// The server's rate as learned from throttles, without headers.
    pub estimated_rate: Option<Rate>,
    /// How many whole cycles the estimate rests on.
    pub estimate_cycles: u32,
    /// When a faster rate is tried next.
    pub next_probe_at: Option<Timestamp>,
}

/// What the rate in force rests on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum RateSource {
    /// Nothing limits it.
    Unlimited,
    Cap,
    Headers,
    /// No throttle seen yet: the rate doubles.
    SlowStart,
    Learned,
    /// A rate above the last good one is being tried.
    Probe,
}
