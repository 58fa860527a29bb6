//! Clocks by which the timestamps of the loop and of the ledger are measured.

use cynosure_engine::{ClockReading, ClockStep, Timestamp};

/// Boot times of the host, each by the wall clock of certain timestamps. They differ by the steps
/// of the wall clock.
#[derive(Debug)]
pub(super) struct LoopClock {
    /// Boot time by the clock of all timestamps of the loop.
    booted_at: Timestamp,
    /// Boot time by the clock of the timestamps in the ledger.
    ledger_booted_at: Timestamp,
}

impl LoopClock {
    pub(super) fn new(booted_at: Timestamp) -> Self {
        Self { booted_at, ledger_booted_at: booted_at }
    }

    /// Adopts the current clock. Returns the step by which it differs from the one before, if any.
    pub(super) fn adopt(&mut self, booted_at: Timestamp) -> Option<ClockStep> {
        let step = ClockStep::between(self.booted_at, booted_at)?;
        self.booted_at = booted_at;
        Some(step)
    }

    /// Adopts the clock of the loop for the ledger. Returns the step between the two, if any.
    pub(super) fn adopt_for_ledger(&mut self) -> Option<ClockStep> {
        let step = ClockStep::between(self.ledger_booted_at, self.booted_at);
        self.ledger_booted_at = self.booted_at;
        step
    }

    /// Returns true if the deadlines in the ledger are still of an earlier clock.
    pub(super) fn is_ledger_behind(&self) -> bool {
        self.ledger_booted_at != self.booted_at
    }

    /// Pairs a timestamp of the loop with the boot time that belongs to it, so that a clock step
    /// during a wait is detected.
    pub(super) fn reading_at(&self, at: Timestamp) -> ClockReading {
        ClockReading { wall: at, booted_at: self.booted_at }
    }
}
