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
    pub fn saturating_add(self, other: Self) -> Self {
        Self {
            calls: self.calls.saturating_add(other.calls),
            successes: self.successes.saturating_add(other.successes),
            failures: self.failures.saturating_add(other.failures),
            rejected: self.rejected.saturating_add(other.rejected),
            times_opened: self.times_opened.saturating_add(other.times_opened),
        }
    }

    #[must_use]
    pub fn saturating_sub(self, other: Self) -> Self {
        Self {
            calls: self.calls.saturating_sub(other.calls),
            successes: self.successes.saturating_sub(other.successes),
            failures: self.failures.saturating_sub(other.failures),
            rejected: self.rejected.saturating_sub(other.rejected),
            times_opened: self.times_opened.saturating_sub(other.times_opened),
        }
    }

    /// Adds 1, saturating because a broken file can hold any number.
    pub(super) fn increment(&mut self, field: impl FnOnce(&mut Self) -> &mut u64) {
        let count = field(self);
        *count = count.saturating_add(1);
    }
}
