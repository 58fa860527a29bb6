//! Progress of a source, and the detection that work is stuck.

use std::time::Duration;

use crate::{ClockStep, Timestamp};

/// Last progress, and the time from which on the next one is expected.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ProgressTracker {
    pub last_at: Timestamp,
    /// Time from which on progress is expected.
    pub expected_since: Timestamp,
    /// Number of escalation steps taken for stuck work.
    pub stuck_escalation_level: u32,
}

impl ProgressTracker {
    pub(super) fn new(now: Timestamp) -> Self {
        Self { last_at: now, expected_since: now, stuck_escalation_level: 0 }
    }

    pub(super) fn record(&mut self, now: Timestamp) {
        *self = Self::new(now);
    }

    /// Expects progress from the start of a phase on.
    pub(super) fn start_phase(&mut self, now: Timestamp) {
        self.expected_since = now;
        self.stuck_escalation_level = 0;
    }

    /// Expects progress from `time` on, if this is later than before.
    pub(super) fn postpone(&mut self, time: Timestamp) {
        self.expected_since = self.expected_since.max(time);
    }

    /// Takes the next escalation step for stuck work, and returns its number.
    pub(super) fn escalate(&mut self, now: Timestamp) -> u32 {
        self.stuck_escalation_level += 1;
        self.expected_since = now;
        self.stuck_escalation_level
    }

    /// Returns the time at which work without progress counts as stuck.
    pub(super) fn stuck_at(&self, stuck_threshold: Duration) -> Timestamp {
        self.expected_since.after(stuck_threshold)
    }

    pub(super) fn shifted_by(self, step: ClockStep) -> Self {
        Self {
            last_at: self.last_at.shifted_by(step),
            expected_since: self.expected_since.shifted_by(step),
            ..self
        }
    }
}
