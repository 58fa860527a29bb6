//! Retry policies: delays, circuit breaker, budget and statistics of one kind of call.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::retry::backoff::BackoffConfig;
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
    pub(super) timer: Arc<dyn Timer>,
    registry: RetryRegistry,
}

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

impl fmt::Debug for RetryPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("RetryPolicy");
        debug.field("name", &self.name).field("backoff", &self.backoff);
        debug.field("breaker", &self.breaker.as_ref().map(|breaker| breaker.name()));
        debug.finish_non_exhaustive()
    }
}
