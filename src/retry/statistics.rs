//! Counts, per name of a policy, what calls came to.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// What the calls under one name came to, since the process began.
///
/// `calls = first_try + recovered + gave_up + refused`, but for calls that are under way
/// or were dropped.
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
    /// Calls that an open breaker let no attempt make.
    pub rejected_calls: u64,
    /// The last failure of any attempt: one line, escaped and cut.
    pub last_failure: Option<String>,
    /// The time spent waiting between attempts, as planned.
    pub total_delay: Duration,
}

/// The statistics of several policies, by name. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct RetryRegistry {
    by_policy: Arc<Mutex<BTreeMap<String, RetryStatistics>>>,
}

impl RetryRegistry {
    /// Copies everything counted so far.
    #[must_use]
    pub fn snapshot(&self) -> BTreeMap<String, RetryStatistics> {
        self.by_policy.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn get(&self, name: &str) -> RetryStatistics {
        self.snapshot().remove(name).unwrap_or_default()
    }

    pub(super) fn record(&self, name: &str, count: impl FnOnce(&mut RetryStatistics)) {
        let mut counted = self.by_policy.lock().unwrap_or_else(PoisonError::into_inner);
        match counted.get_mut(name) {
            Some(statistics) => count(statistics),
            None => count(counted.entry(name.to_owned()).or_default()),
        }
    }
}
