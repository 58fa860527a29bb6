//! Counts of a closed breaker: consecutive failures, and a sliding window of calls.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use crate::Timestamp;

/// Most calls in the window. A fast source is judged by its last 100 calls, since the successes
/// of ten minutes would hide that it is failing now.
pub(super) const WINDOW_CALLS_MAX: usize = 100;

/// Most consecutive failures kept; equal to the largest allowed threshold.
const STREAK_FAILURES_MAX: usize = 10_000;

/// Subject of a call.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum CallSubject {
    /// The service as a whole, such as a listing: each failure counts.
    Service,
    /// One item, by its unique name: repeated failures count once.
    Item(String),
}

/// Failure with its subject.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct RecordedFailure {
    pub(super) subject: CallSubject,
    pub(super) at: Timestamp,
}

/// Failures since the last success.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct FailureStreak {
    pub(super) failures: Vec<RecordedFailure>,
}

/// Sliding window of calls, limited by age and by [`WINDOW_CALLS_MAX`].
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct CallWindow {
    /// Oldest first; `None` for a success.
    pub(super) calls: VecDeque<(Timestamp, Option<CallSubject>)>,
}

/// Failed calls among the calls of the window.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct FailureRate {
    pub failed: u32,
    pub calls: u32,
}

impl FailureStreak {
    pub(super) fn push(&mut self, subject: &CallSubject, at: Timestamp) {
        let known = self.failures.iter_mut().find(|failure| match &failure.subject {
            CallSubject::Item(_) => failure.subject == *subject,
            CallSubject::Service => false,
        });
        match known {
            Some(failure) => failure.at = at,
            None => self.failures.push(RecordedFailure { subject: subject.clone(), at }),
        }
        // Limits memory during a long outage, while a threshold of thousands can still be reached.
        let surplus = self.failures.len().saturating_sub(STREAK_FAILURES_MAX);
        self.failures.drain(..surplus);
    }

    /// Returns true if `subject` is an item that has failed.
    pub(super) fn contains(&self, subject: &CallSubject) -> bool {
        match subject {
            CallSubject::Service => false,
            CallSubject::Item(_) => self.failures.iter().any(|failure| failure.subject == *subject),
        }
    }

    pub(super) fn extend(&mut self, more: &Self) {
        more.failures.iter().for_each(|failure| self.push(&failure.subject, failure.at));
    }

    pub(super) fn clear(&mut self) {
        self.failures.clear();
    }

    pub(super) fn len(&self) -> u32 {
        u32::try_from(self.failures.len()).unwrap_or(u32::MAX)
    }

    /// Drops failures older than `window`, and of the rest the oldest, in the proportion of the
    /// newest failure's age to `window`.
    pub(super) fn decay(&mut self, window: Duration, now: Timestamp) {
        self.failures.retain(|failure| now.since(failure.at) < window);
        let Some(newest) = self.failures.iter().map(|failure| failure.at).max() else { return };
        let age = now.since(newest).as_secs_f64() / window.as_secs_f64();
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "a share of a small count, rounded down"
        )]
        let kept = (self.failures.len() as f64 * (1.0 - age)) as usize;
        self.failures.drain(..self.failures.len() - kept.min(self.failures.len()));
    }
}

impl CallWindow {
    pub(super) fn push(&mut self, window: Duration, failed: Option<CallSubject>, now: Timestamp) {
        self.evict_stale(window, now);
        if self.calls.len() == WINDOW_CALLS_MAX {
            self.calls.pop_front();
        }
        self.calls.push_back((now, failed));
    }

    /// Drops calls that are too old, and calls in the future after a backward clock step.
    pub(super) fn evict_stale(&mut self, window: Duration, now: Timestamp) {
        let is_stale = |at: Timestamp| at > now || now.since(at) >= window;
        while self.calls.front().is_some_and(|(at, _)| is_stale(*at)) {
            self.calls.pop_front();
        }
    }

    /// Returns the items that failed.
    pub(super) fn failed_items(&self) -> FailureStreak {
        let mut failed_items = FailureStreak::default();
        for (at, failed) in &self.calls {
            if let Some(subject @ CallSubject::Item(_)) = failed {
                failed_items.push(subject, *at);
            }
        }
        failed_items
    }

    /// Counts the calls; repeated failures of an item count once.
    pub(super) fn failure_rate(&self) -> FailureRate {
        let mut items = BTreeSet::new();
        let mut rate = FailureRate::default();
        for (_, failed) in &self.calls {
            let counts = match failed {
                None => true,
                Some(CallSubject::Service) => true,
                Some(subject @ CallSubject::Item(_)) => items.insert(subject),
            };
            rate.calls += u32::from(counts);
            rate.failed += u32::from(counts && failed.is_some());
        }
        rate
    }
}
