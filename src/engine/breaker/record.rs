//! What a closed breaker counts: the failures in a row, and the newest calls.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use crate::engine::Timestamp;

/// Calls that the window holds at most. A fast source is judged by its last hundred calls, since
/// ten minutes of good ones would hide that it is failing now.
pub(super) const CALLS_MAX: usize = 100;

/// Failures in a row that are kept: as many as a threshold may be.
const FAULTS_MAX: usize = 10_000;

/// Whom a call was about.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Subject {
    /// The service as a whole, as a listing is: each failure counts.
    Service,
    /// One item, by a name that no other has: however often it fails, it counts once.
    Item(String),
}

/// A failure, and whom it was about.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Fault {
    pub(super) subject: Subject,
    pub(super) at: Timestamp,
}

/// The failures since the last success.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Row {
    pub(super) faults: Vec<Fault>,
}

/// The calls of the last while.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Window {
    /// Oldest first; `None` for a success.
    pub(super) calls: VecDeque<(Timestamp, Option<Subject>)>,
}

/// How many of the calls in the window failed.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Share {
    pub failed: u32,
    pub calls: u32,
}

impl Row {
    pub(super) fn push(&mut self, subject: &Subject, at: Timestamp) {
        let known = self.faults.iter_mut().find(|fault| match &fault.subject {
            Subject::Item(_) => fault.subject == *subject,
            Subject::Service => false,
        });
        match known {
            Some(fault) => fault.at = at,
            None => self.faults.push(Fault { subject: subject.clone(), at }),
        }
        // A threshold of thousands is still reached; what a breaker keeps of a long outage is little.
        let surplus = self.faults.len().saturating_sub(FAULTS_MAX);
        self.faults.drain(..surplus);
    }

    /// Whether this very item has failed.
    pub(super) fn holds(&self, subject: &Subject) -> bool {
        match subject {
            Subject::Service => false,
            Subject::Item(_) => self.faults.iter().any(|fault| fault.subject == *subject),
        }
    }

    pub(super) fn extend(&mut self, more: &Self) {
        more.faults.iter().for_each(|fault| self.push(&fault.subject, fault.at));
    }

    pub(super) fn clear(&mut self) {
        self.faults.clear();
    }

    pub(super) fn len(&self) -> u32 {
        u32::try_from(self.faults.len()).unwrap_or(u32::MAX)
    }

    /// Forgets what is older than `window`, and of the rest the share that its age has of it.
    pub(super) fn fade(&mut self, window: Duration, now: Timestamp) {
        self.faults.retain(|fault| now.since(fault.at) < window);
        let Some(newest) = self.faults.iter().map(|fault| fault.at).max() else { return };
        let age = now.since(newest).as_secs_f64() / window.as_secs_f64();
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "a share of a small count, rounded down"
        )]
        let kept = (self.faults.len() as f64 * (1.0 - age)) as usize;
        self.faults.drain(..self.faults.len() - kept.min(self.faults.len()));
    }
}

impl Window {
    pub(super) fn push(&mut self, window: Duration, failed: Option<Subject>, now: Timestamp) {
        self.forget(window, now);
        if self.calls.len() == CALLS_MAX {
            self.calls.pop_front();
        }
        self.calls.push_back((now, failed));
    }

    /// Forgets what is too old, and what a clock that was set back has put ahead of us.
    pub(super) fn forget(&mut self, window: Duration, now: Timestamp) {
        let is_stale = |at: Timestamp| at > now || now.since(at) >= window;
        while self.calls.front().is_some_and(|(at, _)| is_stale(*at)) {
            self.calls.pop_front();
        }
    }

    /// The items that failed.
    pub(super) fn ill(&self) -> Row {
        let mut ill = Row::default();
        for (at, failed) in &self.calls {
            if let Some(subject @ Subject::Item(_)) = failed {
                ill.push(subject, *at);
            }
        }
        ill
    }

    /// Counts, an item that failed again and again once.
    pub(super) fn share(&self) -> Share {
        let mut items = BTreeSet::new();
        let mut share = Share::default();
        for (_, failed) in &self.calls {
            let counts = match failed {
                None => true,
                Some(Subject::Service) => true,
                Some(subject @ Subject::Item(_)) => items.insert(subject),
            };
            share.calls += u32::from(counts);
            share.failed += u32::from(counts && failed.is_some());
        }
        share
    }
}
