//! For how long the clock has run on without a break: what is read of a state was written by the
//! clock of then, and seems late, or early, by as much as it was set.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tracing::warn;

use crate::engine::{ClockStep, Timestamp};
use crate::worker::{Env, RealEnv};

/// Shared by all who judge by the clock.
#[derive(Clone, Debug)]
pub(super) struct ClockWatch(Arc<Mutex<Last>>);

#[derive(Debug)]
struct Last {
    /// The wall clock when the uptime began.
    origin: Timestamp,
    /// The uptime at which a break was noticed.
    broke_at: Option<Duration>,
}

impl ClockWatch {
    pub(super) fn start() -> Self {
        Self(Arc::new(Mutex::new(Last { origin: origin(), broke_at: None })))
    }

    /// The time since the clock was set, or the machine awoke; what was before the start is not known,
    /// and taken for well.
    pub(super) fn kept(&self) -> Duration {
        // It is whole, whoever panicked while holding it.
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (origin, uptime) = (origin(), RealEnv::uptime());
        if let Some(step) = ClockStep::between(last.origin, origin) {
            warn!(%step, "the clock was set, or the machine was asleep: nothing is late by it");
            *last = Last { origin, broke_at: Some(uptime) };
        }
        last.broke_at.map_or(Duration::MAX, |broke_at| uptime.saturating_sub(broke_at))
    }
}

fn origin() -> Timestamp {
    RealEnv.now().before(RealEnv::uptime())
}
