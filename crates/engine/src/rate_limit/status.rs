//! Status of a rate limiter, for display and metrics.

use crate::Timestamp;
use crate::rate_limit::block::Block;
use crate::rate_limit::policy::RateLimitMode;
use crate::rate_limit::rate::Rate;
use crate::rate_limit::reported_limits::AdvertisedLimit;

/// Status of one scope.
#[derive(Clone, Debug, PartialEq)]
pub struct RateLimitStatus {
    pub mode: RateLimitMode,
    /// Block, if the scope is blocked or probing.
    pub block: Option<Block>,
    /// Limits as last read from headers.
    pub limits: Vec<AdvertisedLimit>,
    /// Rate in force; `None` if requests are not paced.
    pub rate: Option<Rate>,
    pub rate_source: RateSource,
    /// Rate of the server, estimated from throttles without headers.
    pub estimated_rate: Option<Rate>,
    /// Number of complete measurement cycles behind the estimate.
    pub estimate_cycles: u32,
    /// Time of the next attempt at a faster rate.
    pub next_probe_at: Option<Timestamp>,
}

/// Source of the rate in force.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum RateSource {
    /// No limit applies.
    Unlimited,
    Cap,
    Headers,
    /// No throttle seen yet: the rate doubles.
    SlowStart,
    Estimated,
    /// A rate above the last good one is being probed.
    Probe,
}
