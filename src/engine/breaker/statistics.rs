//! Statistics of a breaker, for display.

use serde::{Deserialize, Serialize};

/// Counts since a breaker was created or reset.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default)]
pub struct BreakerStatistics {
    /// Calls that ended, with any result.
    pub calls: u64,
    pub successes: u64,
    /// Failures for which the called service is responsible.
    pub failures: u64,
    /// Calls that were not admitted.
    pub rejected: u64,
    #[serde(rename = "opened")]
    pub times_opened: u64,
}

impl BreakerStatistics {
    #[must_use]
    pub fn saturating_add(self, more: Self) -> Self {
        Self {
            calls: self.calls.saturating_add(more.calls),
            successes: self.successes.saturating_add(more.successes),
            failures: self.failures.saturating_add(more.failures),
            rejected: self.rejected.saturating_add(more.rejected),
            times_opened: self.times_opened.saturating_add(more.times_opened),
        }
    }

    #[must_use]
    pub fn saturating_sub(self, less: Self) -> Self {
        Self {
            calls: self.calls.saturating_sub(less.calls),
            successes: self.successes.saturating_sub(less.successes),
            failures: self.failures.saturating_sub(less.failures),
            rejected: self.rejected.saturating_sub(less.rejected),
            times_opened: self.times_opened.saturating_sub(less.times_opened),
        }
    }

    /// Adds 1, saturating because a broken file can hold any number.
    pub(super) fn increment(&mut self, count: impl FnOnce(&mut Self) -> &mut u64) {
        let count = count(self);
        *count = count.saturating_add(1);
    }
}
