//! Time since the last step of the clock. The timestamps in state files were written by the clock
//! before the step, and seem late or early by the size of the step.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tracing::warn;

use crate::engine::{ClockStep, Timestamp};
use crate::worker::{Env, RealEnv};

/// Monitor of clock steps. Clones share one state.
#[derive(Clone, Debug)]
pub(super) struct ClockStepMonitor(Arc<Mutex<LastReading>>);

#[derive(Debug)]
struct LastReading {
    /// Wall clock time at which the uptime was zero.
    boot_time: Timestamp,
    /// Uptime at which the last step was detected.
    last_step_at: Option<Duration>,
}

impl ClockStepMonitor {
    pub(super) fn start() -> Self {
        Self(Arc::new(Mutex::new(LastReading { boot_time: boot_time(), last_step_at: None })))
    }

    /// Returns the time since the clock was set, or the machine was suspended. The time before the
    /// start is unknown, and assumed to be without steps.
    pub(super) fn stable_for(&self) -> Duration {
        // A panic while it is locked leaves the reading consistent.
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (boot_time, uptime) = (boot_time(), RealEnv::uptime());
        if let Some(step) = ClockStep::between(last.boot_time, boot_time) {
            warn!(%step, "the clock was set or the machine was suspended: delays count from now");
            *last = LastReading { boot_time, last_step_at: Some(uptime) };
        }
        last.last_step_at.map_or(Duration::MAX, |step_at| uptime.saturating_sub(step_at))
    }
}

fn boot_time() -> Timestamp {
    RealEnv.now().before(RealEnv::uptime())
}
