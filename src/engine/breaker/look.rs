//! What can be seen of a breaker.

use super::{Breaker, BreakerPolicy, Change, LastFailure, Phase, Share, State, Statistics};
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
    pub fn phase(&self) -> Phase {
        self.state.phase()
    }

    /// Nothing goes through before then, or until a person closes it where that is `None`.
    /// Absent where something may.
    #[must_use]
    pub fn shut(&self, now: Timestamp) -> Option<Option<Timestamp>> {
        match self.state {
            State::Open { until: Some(until) } if self.is_over(until, now) => None,
            State::Open { until } => Some(until),
            State::Closed { .. } | State::HalfOpen { .. } => None,
        }
    }

    /// When an open one lets a call try; `None` also where a person must close it.
    #[must_use]
    pub fn until(&self) -> Option<Timestamp> {
        match self.state {
            State::Open { until } => until,
            State::Closed { .. } | State::HalfOpen { .. } => None,
        }
    }

    /// Changes with each change of state.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation
    }

    #[must_use]
    pub fn since(&self) -> Timestamp {
        self.since
    }

    /// Failures in a row while it is closed.
    #[must_use]
    pub fn failures_in_a_row(&self) -> u32 {
        match &self.state {
            State::Closed { row, .. } => row.len(),
            State::Open { .. } | State::HalfOpen { .. } => 0,
        }
    }

    /// Successes in a row while it is half-open.
    #[must_use]
    pub fn successes_in_a_row(&self) -> u32 {
        match self.state {
            State::HalfOpen { successes, .. } => successes,
            State::Closed { .. } | State::Open { .. } => 0,
        }
    }

    /// How many of the newest calls failed, while it is closed.
    #[must_use]
    pub fn share(&self, now: Timestamp) -> Share {
        match &self.state {
            State::Closed { window, .. } => {
                let mut window = window.clone();
                window.forget(self.policy.window, now);
                window.share()
            }
            State::Open { .. } | State::HalfOpen { .. } => Share::default(),
        }
    }

    #[must_use]
    pub fn statistics(&self) -> Statistics {
        self.statistics
    }

    /// Counts what other processes have counted too.
    pub fn set_statistics(&mut self, statistics: Statistics, counted_since: Timestamp) {
        self.statistics = statistics;
        self.counted_since = counted_since;
    }

    #[must_use]
    pub fn counted_since(&self) -> Timestamp {
        self.counted_since
    }

    #[must_use]
    pub fn last_failure(&self) -> Option<&LastFailure> {
        self.last_failure.as_ref()
    }

    #[must_use]
    pub fn last_change(&self) -> Option<&Change> {
        self.last_change.as_ref()
    }
}
