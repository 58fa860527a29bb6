//! What can be seen of a breaker.

use super::{
    Breaker, BreakerPolicy, BreakerState, BreakerStatistics, BreakerTransition, FailureRate,
    LastFailure, StateData,
};
use crate::engine::Timestamp;

impl Breaker {
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    #[must_use]
    pub fn policy(&self) -> BreakerPolicy {
        self.policy
    }

    #[must_use]
    pub fn state(&self) -> BreakerState {
        self.state.kind()
    }

    /// Nothing goes through before then, or until a person closes it where that is `None`.
    /// Absent where something may.
    #[must_use]
    pub fn rejecting_until(&self, now: Timestamp) -> Option<Option<Timestamp>> {
        match self.state {
            StateData::Open { until: Some(until) } if self.is_expired(until, now) => None,
            StateData::Open { until } => Some(until),
            StateData::Closed { .. } | StateData::HalfOpen { .. } => None,
        }
    }

    /// When an open one lets a call try; `None` also where a person must close it.
    #[must_use]
    pub fn open_until(&self) -> Option<Timestamp> {
        match self.state {
            StateData::Open { until } => until,
            StateData::Closed { .. } | StateData::HalfOpen { .. } => None,
        }
    }

    /// Changes with each change of state.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation
    }

    #[must_use]
    pub fn state_since(&self) -> Timestamp {
        self.state_since
    }

    /// Failures in a row while it is closed.
    #[must_use]
    pub fn consecutive_failures(&self) -> u32 {
        match &self.state {
            StateData::Closed { failure_streak: row, .. } => row.len(),
            StateData::Open { .. } | StateData::HalfOpen { .. } => 0,
        }
    }

    /// Successes in a row while it is half-open.
    #[must_use]
    pub fn consecutive_successes(&self) -> u32 {
        match self.state {
            StateData::HalfOpen { successes, .. } => successes,
            StateData::Closed { .. } | StateData::Open { .. } => 0,
        }
    }

    /// How many of the newest calls failed, while it is closed.
    #[must_use]
    pub fn failure_rate(&self, now: Timestamp) -> FailureRate {
        match &self.state {
            StateData::Closed { window, .. } => {
                let mut window = window.clone();
                window.evict_stale(self.policy.window, now);
                window.failure_rate()
            }
            StateData::Open { .. } | StateData::HalfOpen { .. } => FailureRate::default(),
        }
    }

    #[must_use]
    pub fn statistics(&self) -> BreakerStatistics {
        self.statistics
    }

    /// Counts what other processes have counted too.
    pub fn set_statistics(&mut self, statistics: BreakerStatistics, counted_since: Timestamp) {
        self.statistics = statistics;
        self.statistics_since = counted_since;
    }

    #[must_use]
    pub fn statistics_since(&self) -> Timestamp {
        self.statistics_since
    }

    #[must_use]
    pub fn last_failure(&self) -> Option<&LastFailure> {
        self.last_failure.as_ref()
    }

    #[must_use]
    pub fn last_transition(&self) -> Option<&BreakerTransition> {
        self.last_transition.as_ref()
    }
}
