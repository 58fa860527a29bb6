//! What is seen of workers and their unit at one moment.

use std::time::Duration;

use crate::engine::watch::UnitStatus;
use crate::engine::{Cause, Status, Timestamp};

/// One source of the configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct WatchedSource {
    pub name: String,
    pub state_file: StateFileContent,
}

/// What its state file tells.
#[derive(Clone, Debug, PartialEq)]
pub enum StateFileContent {
    /// There is none, and nothing else of it.
    NeverRun,
    Status(WorkerStatus),
    /// It has run, and its file does not tell how far: why.
    Unreadable {
        reason: String,
    },
}

/// How far a source is, as its worker last said.
#[derive(Clone, Debug, PartialEq)]
pub struct WorkerStatus {
    pub status: Status,
    pub state_since: Timestamp,
    /// When the state ends, or is looked into at the latest.
    pub until: Option<Timestamp>,
    pub reason: String,
    pub last_progress: Timestamp,
    pub last_updated: Timestamp,
    pub consecutive_errors: u32,
    /// Of the last error.
    pub last_cause: Option<Cause>,
    pub process: ProcessStatus,
}

/// The process that wrote it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ProcessStatus {
    Running {
        pid: u32,
    },
    /// It has said goodbye.
    Exited,
    /// It is gone, and its last word still stands.
    Died {
        pid: u32,
    },
}

/// What systemd says of the unit.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum UnitObservation {
    /// With the starts by systemd since an earlier look, where there was one.
    Observed { unit: UnitStatus, recent_starts: Option<RecentStarts> },
    /// There is no systemd here.
    NoSystemd { reason: String },
    /// There is, and it does not tell.
    Unavailable { reason: String, advice: String },
}

/// How often a unit was started by systemd within a time.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct RecentStarts {
    pub starts: u32,
    pub window: Duration,
}

/// From where on something is amiss.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct WatchLimits {
    /// How long after its deadline a worker may still be about to act.
    pub grace: Duration,
    /// Work without progress for this long is stuck.
    pub stuck_threshold: Duration,
    /// Errors without progress between them.
    pub max_consecutive_errors: u32,
    /// How long a start or a stop may take.
    pub max_transition: Duration,
    /// More starts by systemd than this, lately, are a crash loop.
    pub max_starts: u32,
    /// For how long the clock was not set, and the machine not asleep, as far as is known: before,
    /// nothing was late that seems to be.
    pub clock_stable_for: Duration,
}

impl WatchLimits {
    /// The time since then, as far as it is known.
    pub(super) fn trusted_elapsed(&self, then: Timestamp, now: Timestamp) -> Duration {
        now.since(then).min(self.clock_stable_for)
    }
}
