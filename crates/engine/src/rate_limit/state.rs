//! Persisted form of a rate limiter, kept across a restart of the process.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::Timestamp;
use crate::rate_limit::block::{Block, BlockReason};
use crate::rate_limit::estimator::RateEstimatorState;
use crate::rate_limit::reported_limits::{AdvertisedLimit, HeaderDialect};

/// Persisted state of a rate limiter. Every field has a default, so that older and newer files can
/// be read.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct RateLimiterState {
    /// Time of writing, in milliseconds since the Unix epoch, like every time here.
    pub written_at: i64,
    #[serde(rename = "hold")]
    pub block: Option<BlockState>,
    /// Send time of the probe in flight.
    #[serde(rename = "proving")]
    pub probe_sent_at: Option<i64>,
    /// Time at which the next unit is due.
    #[serde(rename = "paced_until")]
    pub next_due_at: Option<i64>,
    /// Rate in units per second according to the last headers.
    #[serde(rename = "told")]
    pub advertised_rate: Option<f64>,
    /// First backoff step after throttles that name no time.
    #[serde(rename = "ladder_from")]
    pub backoff_first_step: u32,
    /// Throttles that named no time since the last success.
    #[serde(rename = "ladder_tries")]
    pub backoff_attempts: u32,
    /// Backoff delay that last succeeded, if longer than all steps, in milliseconds.
    #[serde(rename = "ladder_longer")]
    pub backoff_last_long_delay_millis: Option<u64>,
    #[serde(rename = "learned")]
    pub estimator: RateEstimatorState,
    /// Last lock-outs in a row whose end the server did not name, if there were any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lock_outs: Option<LockOutState>,
    /// Limits as last read, for display only: the next response reports what is in force.
    pub limits: Vec<LimitState>,
    /// Bytes received, by the start of their quarter of an hour; only with `bytes_per_day`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub received_bytes: BTreeMap<i64, u64>,
}

/// Persisted form of lock-outs in a row.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct LockOutState {
    /// Zero once the row has ended.
    pub count: u32,
    /// End of the last wait.
    pub waited_until: i64,
}

/// Persisted form of an advertised limit.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct LimitState {
    pub name: String,
    #[serde(rename = "family")]
    pub dialect: String,
    pub quota: Option<f64>,
    pub window_seconds: Option<f64>,
    pub remaining: Option<f64>,
    pub unit: Option<String>,
}

/// Persisted form of a block.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct BlockState {
    pub until: i64,
    /// Retry-After, if the server sent it, in milliseconds.
    #[serde(rename = "told")]
    pub retry_after_millis: Option<u64>,
    /// Reset time, if no units remained.
    #[serde(rename = "resets")]
    pub reset_at: Option<i64>,
    /// Number of throttled responses that named no time.
    #[serde(rename = "times")]
    pub throttles: u32,
    pub exceeds_max_wait: bool,
}

impl From<&AdvertisedLimit> for LimitState {
    fn from(limit: &AdvertisedLimit) -> Self {
        Self {
            name: limit.name.clone(),
            dialect: limit.dialect.to_string(),
            quota: limit.quota,
            window_seconds: limit.window.map(|window| window.as_secs_f64()),
            remaining: limit.remaining,
            unit: limit.unit.clone(),
        }
    }
}

impl From<&LimitState> for AdvertisedLimit {
    fn from(state: &LimitState) -> Self {
        let dialect =
            HeaderDialect::ALL.into_iter().find(|dialect| dialect.to_string() == state.dialect);
        let window = state.window_seconds.and_then(|secs| Duration::try_from_secs_f64(secs).ok());
        Self {
            name: state.name.clone(),
            dialect: dialect.unwrap_or(HeaderDialect::RateLimit),
            quota: state.quota,
            window,
            remaining: state.remaining,
            reset: None,
            unit: state.unit.clone(),
            partition: None,
        }
    }
}

impl From<&Block> for BlockState {
    fn from(block: &Block) -> Self {
        let mut state = Self {
            until: block.until.0,
            exceeds_max_wait: block.exceeds_max_wait,
            ..Self::default()
        };
        match block.reason {
            BlockReason::RetryAfter(retry_after) => {
                state.retry_after_millis = u64::try_from(retry_after.as_millis()).ok();
            }
            BlockReason::Exhausted { reset_at, .. } => state.reset_at = Some(reset_at.0),
            BlockReason::NoTimeGiven { throttles } => state.throttles = throttles,
            // Never in force as the block of a response.
            BlockReason::DailyBytes { .. } => {}
        }
        state
    }
}

impl From<&BlockState> for Block {
    fn from(state: &BlockState) -> Self {
        let reason = match (state.retry_after_millis, state.reset_at) {
            (Some(retry_after), _) => BlockReason::RetryAfter(Duration::from_millis(retry_after)),
            (None, Some(reset_at)) => BlockReason::Exhausted {
                reset_at: Timestamp(reset_at),
                dialect: HeaderDialect::RateLimit,
            },
            (None, None) => BlockReason::NoTimeGiven { throttles: state.throttles },
        };
        Self { until: Timestamp(state.until), reason, exceeds_max_wait: state.exceeds_max_wait }
    }
}
