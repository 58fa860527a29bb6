//! For how long the clock has run on without a break: what is read of a state was written by the
//! clock of then, and seems late, or early, by as much as it was set.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tracing::warn;

use crate::engine::{ClockStep, Timestamp};
use crate::worker::{Env, RealEnv};

/// Shared by all who judge by the clock.
#[derive(Clone, Debug)]
pub(super) struct ClockStepMonitor(Arc<Mutex<LastReading>>);

#[derive(Debug)]
struct LastReading {
    /// The wall clock when the uptime began.
    boot_time: Timestamp,
    /// The uptime at which a break was noticed.
    last_step_at: Option<Duration>,
}

impl ClockStepMonitor {
    pub(super) fn start() -> Self {
        Self(Arc::new(Mutex::new(LastReading { boot_time: boot_time(), last_step_at: None })))
    }

    /// The time since the clock was set, or the machine awoke; what was before the start is not known,
    /// and taken for well.
    pub(super) fn stable_for(&self) -> Duration {
        // It is whole, whoever panicked while holding it.
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (origin, uptime) = (boot_time(), RealEnv::uptime());
        if let Some(step) = ClockStep::between(last.boot_time, origin) {
            warn!(%step, "the clock was set, or the machine was asleep: nothing is late by it");
            *last = LastReading { boot_time: origin, last_step_at: Some(uptime) };
        }
        last.last_step_at.map_or(Duration::MAX, |broke_at| uptime.saturating_sub(broke_at))
    }
}

fn boot_time() -> Timestamp {
    RealEnv.now().before(RealEnv::uptime())
}
