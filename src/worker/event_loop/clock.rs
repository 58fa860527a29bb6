//! The clock was set: every moment that is remembered moves with it, so that a wait is as long as
//! it was.

use tracing::{error, warn};

use super::EventLoop;
use crate::engine::{ClockReading, ClockStep, Timestamp};
use crate::source::Source;
use crate::worker::env::Env;

impl<S: Source + 'static, W: Env> EventLoop<S, W> {
    /// The time, once all moments here are of the clock as it is set now.
    pub(super) fn sync_clock(&mut self) -> Timestamp {
        let ClockReading { wall: now, booted_at: booted } = self.env.time();
        let Some(step) = ClockStep::between(self.booted_at, booted) else { return now };
        warn!(%step, "the clock was set: what is waited for is as far away as it was");
        self.booted_at = booted;
        self.machine = self.machine.clone().shifted_by(step);
        self.downloads.shift_by(step);
        self.throughput.reset(self.counts.settled(), now);
        self.progress_logged_at = now;
        // Whoever reads the state must not go by the old clock any longer.
        (self.has_unsaved_changes, self.state_saved_at) = (true, Timestamp::default());
        self.heartbeat.update_from_machine(&self.machine);
        now
    }

    /// A moment of the clock that all moments here are of.
    pub(super) fn as_clock_reading(&self, at: Timestamp) -> ClockReading {
        ClockReading { wall: at, booted_at: self.booted_at }
    }

    /// Whether what waits in the ledger still goes by an earlier clock.
    pub(super) fn is_ledger_clock_behind(&self) -> bool {
        self.ledger_booted_at != self.booted_at
    }

    /// Has what waits in the ledger go by the clock as it is set now, once nothing is under way
    /// that goes by an earlier one.
    pub(super) async fn shift_ledger_deadlines(&mut self) {
        if !self.is_ledger_clock_behind() || !self.commits.is_empty() {
            return;
        }
        let step = ClockStep::between(self.ledger_booted_at, self.booted_at);
        self.ledger_booted_at = self.booted_at;
        let Some(step) = step else { return };
        if let Err(failure) = self.store.with_store(move |store| store.shift_by(step)).await {
            error!(cause = %failure.cause, "items wait for times of the old clock: {failure}");
        }
        self.downloads.request_refill();
    }
}
