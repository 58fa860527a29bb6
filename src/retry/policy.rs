//! Retry policies, and the calls made under them.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::retry::backoff::BackoffConfig;
use crate::retry::error::{RetryError, Retryable};
use crate::retry::execution::Execution;
use crate::retry::hooks::{Budget, CircuitBreaker};
use crate::retry::statistics::{RetryRegistry, RetryStatistics};
use crate::retry::timer::{RealTimer, Timer};

/// Retry policy for one kind of call. Cheap to clone; clones share their statistics.
#[derive(Clone)]
pub struct RetryPolicy {
    name: Arc<str>,
    backoff: BackoffConfig,
    breaker: Option<Arc<dyn CircuitBreaker>>,
    budget: Option<Arc<dyn Budget>>,
    timer: Arc<dyn Timer>,
    registry: RetryRegistry,
}

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
    pub(super) is_retryable: FailureReader<'a, E, bool>,
    pub(super) retry_after: FailureReader<'a, E, Option<Duration>>,
    pub(super) on_retry: Option<OnRetry<'a, E>>,
}

/// Function that reads a value from a failure.
type FailureReader<'a, E, T> = Box<dyn Fn(&E) -> T + Send + Sync + 'a>;
type OnRetry<'a, E> = Box<dyn FnMut(&RetryEvent<'_, E>) + Send + 'a>;

impl RetryPolicy {
    /// Creates a policy with real delays and its own statistics, without circuit breaker and
    /// budget.
    #[must_use]
    pub fn new(name: &str, backoff: BackoffConfig) -> Self {
        Self {
            name: name.into(),
            backoff,
            breaker: None,
            budget: None,
            timer: Arc::new(RealTimer),
            registry: RetryRegistry::default(),
        }
    }

    /// Sets the circuit breaker, which permits or rejects each attempt and records its result.
    #[must_use]
    pub fn with_breaker(mut self, breaker: Arc<dyn CircuitBreaker>) -> Self {
        self.breaker = Some(breaker);
        self
    }

    /// Sets the budget, which permits or denies each retry. It may be a closure.
    #[must_use]
    pub fn with_budget(mut self, budget: impl Budget + 'static) -> Self {
        self.budget = Some(Arc::new(budget));
        self
    }

    /// Replaces the real timer as the source of delays and random samples.
    #[must_use]
    pub fn with_timer(mut self, timer: impl Timer + 'static) -> Self {
        self.timer = Arc::new(timer);
        self
    }

    /// Records statistics in a registry that is shared with other policies.
    #[must_use]
    pub fn with_registry(mut self, registry: &RetryRegistry) -> Self {
        self.registry = registry.clone();
        self
    }

    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    #[must_use]
    pub fn backoff(&self) -> &BackoffConfig {
        &self.backoff
    }

    /// Returns the statistics of all calls under this name so far.
    #[must_use]
    pub fn statistics(&self) -> RetryStatistics {
        self.registry.get(&self.name)
    }

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

    pub(super) fn breaker(&self) -> Option<&dyn CircuitBreaker> {
        self.breaker.as_deref()
    }

    pub(super) fn try_withdraw_retry(&self) -> bool {
        self.budget.as_ref().is_none_or(|budget| budget.try_withdraw())
    }

    pub(super) fn delay(&self, retry: u32, retry_after: Option<Duration>) -> Duration {
        self.backoff.delay(retry, retry_after, self.timer.random_sample())
    }

    pub(super) fn record(&self, update: impl FnOnce(&mut RetryStatistics)) {
        self.registry.record(&self.name, update);
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

impl fmt::Debug for RetryPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("RetryPolicy");
        debug.field("name", &self.name).field("backoff", &self.backoff);
        debug.field("breaker", &self.breaker.as_ref().map(|breaker| breaker.name()));
        debug.finish_non_exhaustive()
    }
}

impl<E> fmt::Debug for RetryBuilder<'_, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RetryBuilder").field("policy", self.policy).finish_non_exhaustive()
    }
}
