//! Time since the last clock step. The timestamps in state files from before the step appear late
//! or early by its size.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cynosure_engine::{ClockStep, Timestamp};
use tracing::warn;

use crate::env::{Env, RealEnv};

/// Monitor of clock steps. Clones share one state.
#[derive(Clone, Debug)]
pub(super) struct ClockStepMonitor(Arc<Mutex<ClockState>>);

#[derive(Debug)]
struct ClockState {
    /// Wall clock time at which the uptime was zero.
    boot_time: Timestamp,
    /// Uptime at which the last step was detected.
    last_step_at: Option<Duration>,
}

impl ClockStepMonitor {
    pub(super) fn start() -> Self {
        Self(Arc::new(Mutex::new(ClockState { boot_time: boot_time(), last_step_at: None })))
    }

    /// Returns the time since the clock was set, or the machine was suspended. The time before the
    /// start is unknown, and assumed to be without steps.
    pub(super) fn stable_for(&self) -> Duration {
        // A panic while it is locked leaves the state consistent.
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (boot_time, uptime) = (boot_time(), RealEnv::uptime());
        if let Some(step) = ClockStep::between(state.boot_time, boot_time) {
            warn!(%step, "clock step detected, delays are measured from now");
            *state = ClockState { boot_time, last_step_at: Some(uptime) };
        }
        state.last_step_at.map_or(Duration::MAX, |step_at| uptime.saturating_sub(step_at))
    }
}

fn boot_time() -> Timestamp {
    RealEnv.now().before(RealEnv::uptime())
}
