//! Execution of one call: all decisions between its attempts, for async and blocking delays.

use std::fmt::Display;
use std::time::Duration;

use tracing::debug;

use crate::engine::sanitize_line;
use crate::retry::error::{RetryError, StopReason};
use crate::retry::policy::{RetryBuilder, RetryEvent, RetryPolicy};

/// Call in progress. If dropped during an attempt, it records that attempt as abandoned at the
/// breaker.
pub(super) struct Execution<'a> {
    policy: &'a RetryPolicy,
    attempts: u32,
    is_attempting: bool,
}

impl<'a> Execution<'a> {
    /// Starts a call with its first attempt, unless the breaker is open.
    pub(super) fn start<E>(policy: &'a RetryPolicy) -> Result<Self, RetryError<E>> {
        let mut execution = Self { policy, attempts: 0, is_attempting: false };
        if execution.try_start_attempt() {
            policy.record(|statistics| statistics.calls += 1);
            return Ok(execution);
        }
        policy.record(|statistics| {
            statistics.calls += 1;
            statistics.rejected_calls += 1;
        });
        let breaker = policy.breaker().map(|breaker| breaker.name().to_owned()).unwrap_or_default();
        Err(RetryError::Rejected { breaker })
    }

    pub(super) fn record_success(mut self) {
        self.is_attempting = false;
        if let Some(breaker) = self.policy.breaker() {
            breaker.record_success();
        }
        let is_first = self.attempts == 1;
        self.policy.record(|statistics| {
            statistics.first_attempt_successes += u64::from(is_first);
            statistics.successes_after_retry += u64::from(!is_first);
        });
    }

    /// Records a failure and returns the delay before the next attempt, or the reason to stop.
    pub(super) fn delay_after_failure<E: Display>(
        &mut self,
        builder: &mut RetryBuilder<'_, E>,
        failure: &E,
    ) -> Result<Duration, StopReason> {
        let is_retryable = (builder.is_retryable)(failure);
        self.is_attempting = false;
        if let Some(breaker) = self.policy.breaker() {
            if is_retryable { breaker.record_failure() } else { breaker.record_abandoned() }
        }
        let line = sanitize_line(&failure.to_string());
        self.policy.record(|statistics| statistics.last_failure = Some(line));

        if !is_retryable {
            return Err(StopReason::NotRetryable);
        }
        if self.policy.backoff().max_attempts <= self.attempts {
            return Err(StopReason::AttemptsExhausted);
        }
        if !self.policy.try_withdraw_retry() {
            return Err(StopReason::BudgetExhausted);
        }
        let delay = self.policy.delay(self.attempts, (builder.retry_after)(failure));
        let name = self.policy.name();
        debug!(policy = name, attempt = self.attempts, ?delay, %failure, "retrying a failed call");
        if let Some(on_retry) = &mut builder.on_retry {
            on_retry(&RetryEvent { policy: name, attempt: self.attempts, delay, failure });
        }
        Ok(delay)
    }

    /// Starts the next attempt after a delay, unless the breaker has opened meanwhile.
    pub(super) fn start_next_attempt(&mut self, waited: Duration) -> Result<(), StopReason> {
        self.policy.record(|statistics| statistics.total_delay += waited);
        if !self.try_start_attempt() {
            return Err(StopReason::BreakerOpen);
        }
        self.policy.record(|statistics| statistics.retries += 1);
        Ok(())
    }

    pub(super) fn into_error<E>(self, failure: E, reason: StopReason) -> RetryError<E> {
        self.policy.record(|statistics| statistics.failed_calls += 1);
        RetryError::Failed { failure, attempts: self.attempts, reason }
    }

    fn try_start_attempt(&mut self) -> bool {
        let permitted = self.policy.breaker().is_none_or(|breaker| breaker.try_acquire());
        self.is_attempting = permitted;
        self.attempts += u32::from(permitted);
        permitted
    }
}

impl Drop for Execution<'_> {
    fn drop(&mut self) {
        if self.is_attempting
            && let Some(breaker) = self.policy.breaker()
        {
            breaker.record_abandoned();
        }
    }
}
