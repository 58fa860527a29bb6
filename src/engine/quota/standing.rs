//! What was understood of a quota, for people and metrics.

use crate::engine::Timestamp;
use crate::engine::quota::{Hold, Limit, QuotaMode, Rate};

/// Where a scope stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Standing {
    pub mode: QuotaMode,
    /// The gate, if it is closed or proving.
    pub hold: Option<Hold>,
    /// The limits as last read from headers.
    pub limits: Vec<Limit>,
    /// The rate in force; none: nothing is paced.
    pub rate: Option<Rate>,
    pub basis: Basis,
    /// The server's rate as learned from throttles, without headers.
    pub estimate: Option<Rate>,
    /// How many whole cycles the estimate rests on.
    pub cycles: u32,
    /// When a faster rate is tried next.
    pub next_probe: Option<Timestamp>,
}

/// What the rate in force rests on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Basis {
    /// Nothing limits it.
    Nothing,
    Cap,
    Headers,
    /// No throttle seen yet: the rate doubles.
    SlowStart,
    Learned,
    /// A rate above the last good one is being tried.
    Probe,
}
