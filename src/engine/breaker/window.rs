//! What a closed breaker counts: the failures in a row, and the newest calls.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use crate::engine::Timestamp;

/// Calls that the window holds at most. A fast source is judged by its last hundred calls, since
/// ten minutes of good ones would hide that it is failing now.
pub(super) const WINDOW_CALLS_MAX: usize = 100;

/// Failures in a row that are kept: as many as a threshold may be.
const STREAK_FAILURES_MAX: usize = 10_000;

/// Whom a call was about.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum CallSubject {
    /// The service as a whole, as a listing is: each failure counts.
    Service,
    /// One item, by a name that no other has: however often it fails, it counts once.
    Item(String),
}

/// A failure, and whom it was about.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct RecordedFailure {
    pub(super) subject: CallSubject,
    pub(super) at: Timestamp,
}

/// The failures since the last success.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct FailureStreak {
    pub(super) failures: Vec<RecordedFailure>,
}

/// The calls of the last while.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct CallWindow {
    /// Oldest first; `None` for a success.
    pub(super) calls: VecDeque<(Timestamp, Option<CallSubject>)>,
}

/// How many of the calls in the window failed.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct FailureRate {
    pub failed: u32,
    pub calls: u32,
}

impl FailureStreak {
    pub(super) fn push(&mut self, subject: &CallSubject, at: Timestamp) {
        let known = self.failures.iter_mut().find(|fault| match &fault.subject {
            CallSubject::Item(_) => fault.subject == *subject,
            CallSubject::Service => false,
        });
        match known {
            Some(fault) => fault.at = at,
            None => self.failures.push(RecordedFailure { subject: subject.clone(), at }),
        }
        // A threshold of thousands is still reached; what a breaker keeps of a long outage is little.
        let surplus = self.failures.len().saturating_sub(STREAK_FAILURES_MAX);
        self.failures.drain(..surplus);
    }

    /// Whether this very item has failed.
    pub(super) fn contains(&self, subject: &CallSubject) -> bool {
        match subject {
            CallSubject::Service => false,
            CallSubject::Item(_) => self.failures.iter().any(|fault| fault.subject == *subject),
        }
    }

    pub(super) fn extend(&mut self, more: &Self) {
        more.failures.iter().for_each(|fault| self.push(&fault.subject, fault.at));
    }

    pub(super) fn clear(&mut self) {
        self.failures.clear();
    }

    pub(super) fn len(&self) -> u32 {
        u32::try_from(self.failures.len()).unwrap_or(u32::MAX)
    }

    /// Forgets what is older than `window`, and of the rest the share that its age has of it.
    pub(super) fn decay(&mut self, window: Duration, now: Timestamp) {
        self.failures.retain(|fault| now.since(fault.at) < window);
        let Some(newest) = self.failures.iter().map(|fault| fault.at).max() else { return };
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

    /// Forgets what is too old, and what a clock that was set back has put ahead of us.
    pub(super) fn evict_stale(&mut self, window: Duration, now: Timestamp) {
        let is_stale = |at: Timestamp| at > now || now.since(at) >= window;
        while self.calls.front().is_some_and(|(at, _)| is_stale(*at)) {
            self.calls.pop_front();
        }
    }

    /// The items that failed.
    pub(super) fn failed_items(&self) -> FailureStreak {
        let mut ill = FailureStreak::default();
        for (at, failed) in &self.calls {
            if let Some(subject @ CallSubject::Item(_)) = failed {
                ill.push(subject, *at);
            }
        }
        ill
    }

    /// Counts, an item that failed again and again once.
    pub(super) fn failure_rate(&self) -> FailureRate {
        let mut items = BTreeSet::new();
        let mut share = FailureRate::default();
        for (_, failed) in &self.calls {
            let counts = match failed {
                None => true,
                Some(CallSubject::Service) => true,
                Some(subject @ CallSubject::Item(_)) => items.insert(subject),
            };
            share.calls += u32::from(counts);
            share.failed += u32::from(counts && failed.is_some());
        }
        share
    }
}
