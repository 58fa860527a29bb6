//! Thresholds and timeouts of a breaker.

use std::time::Duration;

use super::window::FailureRate;
use crate::{Failure, number_with_noun};

/// Distinct failures needed as evidence, since one failing item says nothing about the others.
pub(super) const DISTINCT_FAILURES_MIN: u32 = 2;

/// Thresholds and timeouts of a breaker.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BreakerPolicy {
    /// Consecutive failures, of different items, that open it; at least 1.
    pub failure_threshold: u32,
    /// Age from which a call no longer counts.
    pub window: Duration,
    /// Failure rate over the window that opens it, in `0.0..=1.0`.
    pub failure_rate: f64,
    /// Calls that the window must hold before `failure_rate` applies.
    pub min_calls: u32,
    /// First open period; doubled each time that a probe fails.
    pub recovery_timeout: Duration,
    /// Longest open period that the breaker chooses itself.
    pub max_recovery_timeout: Duration,
    /// Consecutive successes that close a half-open breaker; at least 1.
    pub success_threshold: u32,
}

impl BreakerPolicy {
    /// Defaults of the configuration table `[breaker]`.
    pub const DEFAULT: Self = Self {
        failure_threshold: 5,
        window: Duration::from_secs(600),
        failure_rate: 0.5,
        min_calls: 20,
        recovery_timeout: Duration::from_secs(60),
        max_recovery_timeout: Duration::from_secs(600),
        success_threshold: 3,
    };

    /// Returns the reason to open after this number of consecutive failures, the last of which is
    /// `failure`. `None` if they are too few.
    pub(super) fn reason_by_streak(&self, count: u32, failure: &Failure) -> Option<String> {
        (count >= self.failure_threshold)
            .then(|| format!("{} in a row: {failure}", number_with_noun(count.into(), "failure")))
    }

    /// Returns the reason to open at this failure rate. `None` if it is too low.
    pub(super) fn reason_by_rate(&self, rate: FailureRate, failure: &Failure) -> Option<String> {
        self.is_rate_exceeded(rate)
            .then(|| format!("{} of {} calls failed: {failure}", rate.failed, rate.calls))
    }

    fn is_rate_exceeded(&self, rate: FailureRate) -> bool {
        let failed_share = f64::from(rate.failed) / f64::from(rate.calls.max(1));
        rate.calls >= self.min_calls
            && rate.failed >= DISTINCT_FAILURES_MIN
            && failed_share >= self.failure_rate
    }

    pub(super) fn max_open_duration(&self) -> Duration {
        self.max_recovery_timeout.max(self.recovery_timeout)
    }
}
