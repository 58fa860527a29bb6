//! What a user decides about following a quota.

use std::time::Duration;

use crate::engine::quota::Rate;

/// How much of the server's word, and of our own observation, sets the rate.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum QuotaMode {
    /// The rate follows the headers, or is learned where there are none.
    Follow,
    /// The rate is the cap, and nothing is learned; holds are obeyed.
    Fixed,
    /// Nothing is paced or learned; holds are obeyed.
    Off,
}

/// The rules of one scope.
#[derive(Clone, Debug, PartialEq)]
pub struct QuotaPolicy {
    pub mode: QuotaMode,
    /// Never faster than this, whatever the server allows.
    pub cap: Option<Rate>,
    /// The share of the quota left to other clients, in `0.0..=0.9`.
    pub reserve: f64,
    /// A hold longer than this is worth an alert; a reset is not waited for longer before a try.
    pub max_wait: Duration,
    /// The first hold after a throttle that names no time, where nothing is followed. Where the quota is
    /// followed, the first hold is a second, since its outcome is learned from.
    pub hold: Duration,
}

impl Default for QuotaPolicy {
    fn default() -> Self {
        Self {
            mode: QuotaMode::Follow,
            cap: None,
            reserve: 0.0,
            max_wait: Duration::from_secs(3600),
            hold: Duration::from_secs(300),
        }
    }
}
