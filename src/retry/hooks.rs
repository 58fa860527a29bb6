//! Traits that can deny an attempt: a circuit breaker and a retry budget.

/// Named circuit breaker that permits or rejects each attempt and records its result.
///
/// Each `try_acquire` that returns true is followed by exactly one `record_success`,
/// `record_failure` or `record_abandoned`.
///
/// ```
/// use std::sync::Arc;
/// use std::sync::atomic::{AtomicBool, Ordering};
/// use cynosure::retry::{BackoffConfig, CircuitBreaker, RetryError, RetryPolicy};
///
/// /// Opens at the first failure.
/// #[derive(Default)]
/// struct Strict(AtomicBool);
///
/// impl CircuitBreaker for Strict {
///     fn name(&self) -> &str {
///         "strict"
///     }
///     fn try_acquire(&self) -> bool {
///         !self.0.load(Ordering::Relaxed)
///     }
///     fn record_success(&self) {}
///     fn record_failure(&self) {
///         self.0.store(true, Ordering::Relaxed);
///     }
/// }
///
/// let once = BackoffConfig { max_attempts: 1, ..BackoffConfig::FAST };
/// let policy = RetryPolicy::new("guarded", once).with_breaker(Arc::new(Strict::default()));
/// let call = || policy.when(|_: &&str| true).run_blocking(|| Err::<(), _>("down"));
///
/// assert!(matches!(call(), Err(RetryError::Failed { failure: "down", .. })));
/// assert_eq!(call(), Err(RetryError::Rejected { breaker: "strict".to_owned() }));
/// ```
pub trait CircuitBreaker: Send + Sync {
    fn name(&self) -> &str;

    /// Returns true if an attempt may be made now.
    fn try_acquire(&self) -> bool;

    fn record_success(&self);

    /// Records a retryable failure, which may mean that the server is unhealthy.
    fn record_failure(&self);

    /// Records an attempt that says nothing about the server's health: it failed for a permanent
    /// reason, or was dropped before it ended.
    fn record_abandoned(&self) {}
}

/// Retry budget shared by several calls, so that an outage does not multiply the number of
/// requests.
///
/// ```
/// use std::sync::atomic::{AtomicU32, Ordering};
/// use cynosure::retry::{BackoffConfig, RetryError, RetryPolicy, StopReason};
///
/// let remaining = AtomicU32::new(0);
/// let policy = RetryPolicy::new("thrifty", BackoffConfig::FAST).with_budget(move || {
///     let relaxed = Ordering::Relaxed;
///     remaining.fetch_update(relaxed, relaxed, |count| count.checked_sub(1)).is_ok()
/// });
/// let outcome = policy.when(|_: &&str| true).run_blocking(|| Err::<(), _>("busy"));
///
/// let expected = RetryError::Failed {
///     failure: "busy",
///     attempts: 1,
///     reason: StopReason::BudgetExhausted,
/// };
/// assert_eq!(outcome, Err(expected));
/// ```
pub trait Budget: Send + Sync {
    /// Takes one retry from the budget. Returns false if none is left.
    fn try_withdraw(&self) -> bool;
}

impl<F: Fn() -> bool + Send + Sync> Budget for F {
    fn try_withdraw(&self) -> bool {
        self()
    }
}
