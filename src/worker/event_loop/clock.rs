//! Handles steps of the wall clock: all deadlines are shifted by the step, so that each wait keeps
//! its length.

use tracing::{error, warn};

use super::EventLoop;
use crate::engine::{ClockReading, ClockStep, Timestamp};
use crate::source::Source;
use crate::worker::env::Env;

impl<S: Source + 'static, E: Env> EventLoop<S, E> {
    /// Returns the current time, after shifting all timestamps of the loop to the current clock.
    pub(super) fn sync_clock(&mut self) -> Timestamp {
        let ClockReading { wall: now, booted_at } = self.env.time();
        let Some(step) = ClockStep::between(self.booted_at, booted_at) else { return now };
        warn!(%step, "the clock was set: all deadlines are shifted by the step");
        self.booted_at = booted_at;
        self.machine = self.machine.clone().shifted_by(step);
        self.downloads.shift_by(step);
        self.known_good_check.shift_by(step);
        self.throughput.reset(self.counts.settled(), now);
        self.progress_logged_at = now;
        // Readers of the state must not use timestamps of the old clock any longer.
        (self.has_unsaved_changes, self.state_saved_at) = (true, Timestamp::default());
        self.heartbeat.update_from_machine(&self.machine);
        now
    }

    /// Pairs a timestamp of the loop with the boot time that belongs to it, so that a clock step
    /// during a wait is detected.
    pub(super) fn as_clock_reading(&self, at: Timestamp) -> ClockReading {
        ClockReading { wall: at, booted_at: self.booted_at }
    }

    /// Returns true if the deadlines in the ledger are still of an earlier clock.
    pub(super) fn is_ledger_clock_behind(&self) -> bool {
        self.ledger_booted_at != self.booted_at
    }

    /// Shifts the deadlines in the ledger to the current clock, once no commit with times of an
    /// earlier clock is running.
    pub(super) async fn shift_ledger_deadlines(&mut self) {
        if !self.is_ledger_clock_behind() || !self.commits.is_empty() {
            return;
        }
        let step = ClockStep::between(self.ledger_booted_at, self.booted_at);
        self.ledger_booted_at = self.booted_at;
        let Some(step) = step else { return };
        if let Err(failure) = self.store.with_store(move |store| store.shift_by(step)).await {
            error!(
                cause = %failure.cause, error = %failure,
                "cannot shift the deadlines in the ledger"
            );
        }
        self.downloads.request_refill();
    }
}
