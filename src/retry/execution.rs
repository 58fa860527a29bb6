//! Calls under a retry policy: all decisions between attempts, for async and blocking delays.

use std::fmt;
use std::time::Duration;

use cynosure_engine::sanitize_line;
use tracing::debug;

use crate::retry::error::{RetryError, Retryable, StopReason};
use crate::retry::policy::RetryPolicy;

/// Retry about to happen, reported before its delay.
#[derive(Debug)]
pub struct RetryEvent<'a, E> {
    /// Name of the policy.
    pub policy: &'a str,
    /// Number of the failed attempt, from 1.
    pub attempt: u32,
    /// Delay before the next attempt.
    pub delay: Duration,
    pub failure: &'a E,
}

/// Builder of one call with its own retry decision and callback.
pub struct RetryBuilder<'a, E> {
    policy: &'a RetryPolicy,
    is_retryable: FailureReader<'a, E, bool>,
    retry_after: FailureReader<'a, E, Option<Duration>>,
    on_retry: Option<OnRetry<'a, E>>,
}

/// Function that reads a value from a failure.
type FailureReader<'a, E, T> = Box<dyn Fn(&E) -> T + Send + Sync + 'a>;
type OnRetry<'a, E> = Box<dyn FnMut(&RetryEvent<'_, E>) + Send + 'a>;

/// Call in progress. If dropped during an attempt, it records that attempt as abandoned at the
/// breaker.
struct Execution<'a> {
    policy: &'a RetryPolicy,
    attempts: u32,
    is_attempting: bool,
}

impl RetryPolicy {
    /// Starts a call that decides with `is_retryable` which failures are retried.
    pub fn when<'a, E: fmt::Display + 'a>(
        &'a self,
        is_retryable: impl Fn(&E) -> bool + Send + Sync + 'a,
    ) -> RetryBuilder<'a, E> {
        let is_retryable = Box::new(is_retryable);
        RetryBuilder { policy: self, is_retryable, retry_after: Box::new(|_| None), on_retry: None }
    }

    /// Starts a call whose failures decide themselves, through [`Retryable`], whether they are
    /// retried.
    #[must_use]
    pub fn builder<'a, E: Retryable + 'a>(&'a self) -> RetryBuilder<'a, E> {
        self.when(E::is_retryable).retry_after(E::retry_after)
    }

    /// Calls `operation` until it succeeds or the policy gives up.
    ///
    /// The future may be dropped at any await.
    ///
    /// # Errors
    /// Returns the last failure, or an error if the open breaker permitted no attempt.
    pub async fn run<'a, T, E: Retryable + 'a>(
        &'a self,
        operation: impl AsyncFnMut() -> Result<T, E>,
    ) -> Result<T, RetryError<E>> {
        self.builder().run(operation).await
    }

    /// Calls `operation` until it succeeds or the policy gives up. Delays block the current thread.
    ///
    /// # Errors
    /// Returns the same errors as [`run`](Self::run).
    pub fn run_blocking<'a, T, E: Retryable + 'a>(
        &'a self,
        operation: impl FnMut() -> Result<T, E>,
    ) -> Result<T, RetryError<E>> {
        self.builder().run_blocking(operation)
    }
}

impl<'a, E: fmt::Display> RetryBuilder<'a, E> {
    /// Sets the function that reads the server's retry-after from a failure.
    #[must_use]
    pub fn retry_after(
        mut self,
        retry_after: impl Fn(&E) -> Option<Duration> + Send + Sync + 'a,
    ) -> Self {
        self.retry_after = Box::new(retry_after);
        self
    }

    /// Sets a callback that runs before each delay.
    #[must_use]
    pub fn on_retry(mut self, callback: impl FnMut(&RetryEvent<'_, E>) + Send + 'a) -> Self {
        self.on_retry = Some(Box::new(callback));
        self
    }

    /// Runs the call like [`RetryPolicy::run`].
    ///
    /// # Errors
    /// Returns the last failure, or an error if the open breaker permitted no attempt.
    pub async fn run<T>(
        mut self,
        mut operation: impl AsyncFnMut() -> Result<T, E>,
    ) -> Result<T, RetryError<E>> {
        let mut execution = Execution::start(self.policy)?;
        loop {
            let failure = match operation().await {
                Ok(value) => {
                    execution.record_success();
                    return Ok(value);
                }
                Err(failure) => failure,
            };
            let delay = match execution.delay_after_failure(&mut self, &failure) {
                Ok(delay) => delay,
                Err(reason) => return Err(execution.into_error(failure, reason)),
            };
            self.policy.timer.sleep(delay).await;
            if let Err(reason) = execution.start_next_attempt(delay) {
                return Err(execution.into_error(failure, reason));
            }
        }
    }

    /// Runs the call like [`RetryPolicy::run_blocking`].
    ///
    /// # Errors
    /// Returns the last failure, or an error if the open breaker permitted no attempt.
    pub fn run_blocking<T>(
        mut self,
        mut operation: impl FnMut() -> Result<T, E>,
    ) -> Result<T, RetryError<E>> {
        let mut execution = Execution::start(self.policy)?;
        loop {
            let failure = match operation() {
                Ok(value) => {
                    execution.record_success();
                    return Ok(value);
                }
                Err(failure) => failure,
            };
            let delay = match execution.delay_after_failure(&mut self, &failure) {
                Ok(delay) => delay,
                Err(reason) => return Err(execution.into_error(failure, reason)),
            };
            self.policy.timer.sleep_blocking(delay);
            if let Err(reason) = execution.start_next_attempt(delay) {
                return Err(execution.into_error(failure, reason));
            }
        }
    }
}

impl<'a> Execution<'a> {
    /// Starts a call with its first attempt, unless the breaker is open.
    fn start<E>(policy: &'a RetryPolicy) -> Result<Self, RetryError<E>> {
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

    fn record_success(mut self) {
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
    fn delay_after_failure<E: fmt::Display>(
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
    fn start_next_attempt(&mut self, waited: Duration) -> Result<(), StopReason> {
        self.policy.record(|statistics| statistics.total_delay += waited);
        if !self.try_start_attempt() {
            return Err(StopReason::BreakerOpen);
        }
        self.policy.record(|statistics| statistics.retries += 1);
        Ok(())
    }

    fn into_error<E>(self, failure: E, reason: StopReason) -> RetryError<E> {
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

impl<E> fmt::Debug for RetryBuilder<'_, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RetryBuilder").field("policy", self.policy).finish_non_exhaustive()
    }
}
