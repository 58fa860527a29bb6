//! Accessors of a breaker.

use super::{
    Breaker, BreakerPolicy, BreakerState, BreakerStatistics, BreakerTransition, FailureRate,
    LastFailure, StateData,
};
use crate::Timestamp;

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

    /// Returns the end of the open period, `Some(None)` if it lasts until a manual close.
    /// `None` if a call may be admitted at `now`.
    #[must_use]
    pub fn rejecting_until(&self, now: Timestamp) -> Option<Option<Timestamp>> {
        match self.state {
            StateData::Open { until: Some(until) } if self.is_expired(until, now) => None,
            StateData::Open { until } => Some(until),
            StateData::Closed { .. } | StateData::HalfOpen { .. } => None,
        }
    }

    /// Returns the time from which an open breaker admits a probe. `None` if it is not open, or is
    /// open until a manual close.
    #[must_use]
    pub fn open_until(&self) -> Option<Timestamp> {
        match self.state {
            StateData::Open { until } => until,
            StateData::Closed { .. } | StateData::HalfOpen { .. } => None,
        }
    }

    /// Returns true from the time when it opens until it closes. A breaker that is half-open only
    /// because a session failed has rejected no call.
    #[must_use]
    pub fn is_in_open_period(&self) -> bool {
        let was_open =
            self.last_transition.as_ref().is_none_or(|last| last.from != BreakerState::Closed);
        self.state().is_in_open_period(was_open)
    }

    /// Returns a number that changes with each change of state.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation
    }

    #[must_use]
    pub fn state_since(&self) -> Timestamp {
        self.state_since
    }

    /// Returns the consecutive failures of a closed breaker; 0 in the other states.
    #[must_use]
    pub fn consecutive_failures(&self) -> u32 {
        match &self.state {
            StateData::Closed { failure_streak, .. } => failure_streak.len(),
            StateData::Open { .. } | StateData::HalfOpen { .. } => 0,
        }
    }

    /// Returns the consecutive successes of a half-open breaker; 0 in the other states.
    #[must_use]
    pub fn consecutive_successes(&self) -> u32 {
        match self.state {
            StateData::HalfOpen { successes, .. } => successes,
            StateData::Closed { .. } | StateData::Open { .. } => 0,
        }
    }

    /// Returns the failure rate of a closed breaker over its window; empty in the other states.
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

    /// Replaces the statistics by a total that includes the counts of other processes.
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
