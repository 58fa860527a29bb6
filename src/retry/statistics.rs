//! Retry statistics by policy name.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Statistics of all calls under one policy name since the process started.
///
/// `calls = first_attempt_successes + successes_after_retry + failed_calls + rejected_calls`, apart
/// from calls that are in progress or were dropped.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct RetryStatistics {
    pub calls: u64,
    /// Calls whose first attempt succeeded.
    pub first_attempt_successes: u64,
    /// Attempts after the first, of all calls.
    pub retries: u64,
    /// Calls that succeeded after a retry.
    pub successes_after_retry: u64,
    /// Calls that ended with a failure.
    pub failed_calls: u64,
    /// Calls for which an open circuit breaker permitted no attempt.
    pub rejected_calls: u64,
    /// Last failure of any attempt: one line, escaped and truncated.
    pub last_failure: Option<String>,
    /// Sum of the planned delays between attempts.
    pub total_delay: Duration,
}

/// Statistics of several policies by name. Clones share the same data.
#[derive(Clone, Debug, Default)]
pub struct RetryRegistry {
    by_policy: Arc<Mutex<BTreeMap<String, RetryStatistics>>>,
}

impl RetryRegistry {
    /// Returns a copy of all statistics so far.
    #[must_use]
    pub fn snapshot(&self) -> BTreeMap<String, RetryStatistics> {
        self.by_policy.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn get(&self, name: &str) -> RetryStatistics {
        self.snapshot().remove(name).unwrap_or_default()
    }

    pub(super) fn record(&self, name: &str, update: impl FnOnce(&mut RetryStatistics)) {
        let mut by_policy = self.by_policy.lock().unwrap_or_else(PoisonError::into_inner);
        match by_policy.get_mut(name) {
            Some(statistics) => update(statistics),
            None => update(by_policy.entry(name.to_owned()).or_default()),
        }
    }
}
