//! Handles steps of the wall clock: all deadlines are shifted by the step, so that each wait keeps
//! its length.

use cynosure_engine::{ClockReading, Timestamp};
use tracing::{error, warn};

use super::EventLoop;
use crate::env::Env;
use crate::source::Source;

impl<S: Source + 'static, E: Env> EventLoop<S, E> {
    /// Returns the current time, after shifting all timestamps of the loop to the current clock.
    pub(super) fn sync_clock(&mut self) -> Timestamp {
        let ClockReading { wall: now, booted_at } = self.deps.env.time();
        let Some(step) = self.clock.adopt(booted_at) else { return now };
        warn!(%step, "the clock was set: all deadlines are shifted by the step");
        self.machine = self.machine.clone().shifted_by(step);
        self.work.downloads.shift_by(step);
        self.work.known_good_check.shift_by(step);
        self.progress.reset_throughput(now);
        self.publication.on_clock_step(now);
        self.deps.heartbeat.update_from_machine(&self.machine);
        now
    }

    /// Shifts the deadlines in the ledger to the current clock, once no commit with times of an
    /// earlier clock is running.
    pub(super) async fn shift_ledger_deadlines(&mut self) {
        if !self.clock.is_ledger_behind() || !self.work.commits.is_empty() {
            return;
        }
        let Some(step) = self.clock.adopt_for_ledger() else { return };
        if let Err(failure) = self.deps.store.with_store(move |store| store.shift_by(step)).await {
            error!(
                cause = %failure.cause, error = %failure,
                "cannot shift the deadlines in the ledger"
            );
        }
        self.work.downloads.request_refill();
    }
}
