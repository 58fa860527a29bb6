//! Times of the activity of one scope: what is waiting, and since when nothing has happened.

use std::time::Duration;

use crate::{ClockStep, Timestamp};

/// Times of the activity of one scope.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Activity {
    /// Time since which the next request has been waiting.
    pub(super) waiting_since: Option<Timestamp>,
    /// Time of the last call.
    pub(super) last_seen_at: Timestamp,
    /// End of the last activity: a request, a response, or the deadline of a wait.
    pub(super) active_until: Timestamp,
}

impl Activity {
    pub(super) fn new(now: Timestamp) -> Self {
        Self { waiting_since: None, last_seen_at: now, active_until: now }
    }

    /// Returns the time without activity; a block until `blocked_until` is activity.
    pub(super) fn idle_time(&self, blocked_until: Option<Timestamp>, now: Timestamp) -> Duration {
        now.since(self.active_until.max(blocked_until.unwrap_or(self.active_until)))
    }

    /// Records that there was activity until `at`.
    pub(super) fn extend_to(&mut self, at: Timestamp) {
        self.active_until = self.active_until.max(at);
    }

    pub(super) fn shift_by(&mut self, step: ClockStep) {
        self.waiting_since = self.waiting_since.map(|since| since.shifted_by(step));
        self.last_seen_at = self.last_seen_at.shifted_by(step);
        self.active_until = self.active_until.shifted_by(step);
    }
}
