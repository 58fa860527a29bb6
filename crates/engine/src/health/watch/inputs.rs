//! Inputs of an evaluation: workers and their unit at one moment, and the limits.

use std::time::Duration;

use crate::health::watch::UnitStatus;
use crate::{Cause, Status, Timestamp};

/// Configured source with its state file.
#[derive(Clone, Debug, PartialEq)]
pub struct WatchedSource {
    pub name: String,
    pub state_file: StateFileContent,
}

/// Content of a source's state file.
#[derive(Clone, Debug, PartialEq)]
pub enum StateFileContent {
    /// There is neither a state file nor another trace of the source.
    NeverRun,
    Status(WorkerStatus),
    /// The source has run, but its state file cannot be read.
    Unreadable {
        reason: String,
    },
}

/// Status of a source as its worker last published it.
#[derive(Clone, Debug, PartialEq)]
pub struct WorkerStatus {
    pub status: Status,
    pub state_since: Timestamp,
    /// Deadline at which the state ends or is checked at the latest.
    pub until: Option<Timestamp>,
    pub reason: String,
    pub last_progress: Timestamp,
    pub last_updated: Timestamp,
    pub consecutive_errors: u32,
    /// Cause of the last error.
    pub last_cause: Option<Cause>,
    /// Message of the last error, if this host's storage caused it and the worker waits after it.
    pub storage_error: Option<String>,
    /// Start of the running session.
    pub session_started_at: Option<Timestamp>,
    /// Quarantined items of its last session.
    pub quarantined: u64,
    pub process: ProcessStatus,
}

/// Process that wrote the state.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ProcessStatus {
    Running {
        pid: u32,
    },
    /// It exited and recorded its exit.
    Exited,
    /// It is gone without recording its exit.
    Died {
        pid: u32,
    },
}

impl ProcessStatus {
    #[must_use]
    pub fn is_running(self) -> bool {
        matches!(self, Self::Running { .. })
    }
}

/// Observation of the unit through systemd.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum UnitObservation {
    /// `recent_starts`: starts by systemd since an earlier cycle, if there was one.
    Observed { unit: UnitStatus, recent_starts: Option<RecentStarts> },
    /// This host does not run systemd.
    NoSystemd { reason: String },
    /// systemd runs, but the unit could not be queried.
    Unavailable { reason: String, advice: String },
}

/// Starts of a unit by systemd within a time window.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct RecentStarts {
    pub starts: u32,
    pub window: Duration,
}

/// Limits of the evaluation.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct WatchLimits {
    /// Tolerance after a worker's deadline, within which it may still act.
    pub grace: Duration,
    /// Longest time of work without progress.
    pub stuck_threshold: Duration,
    /// Number of errors, without progress between them, from which the source counts as failing.
    pub max_consecutive_errors: u32,
    /// Longest duration of a start or a stop.
    pub max_transition: Duration,
    /// Maximum number of recent starts by systemd; more are a crash loop.
    pub max_starts: u32,
    /// Time since the last clock step or suspend, as far as known. Nothing counts as late for
    /// longer, because a longer delay may only be an effect of the step.
    pub clock_stable_for: Duration,
}

impl WatchLimits {
    /// Returns the time since `earlier`, at most the time since the last clock step.
    pub(super) fn trusted_elapsed(&self, earlier: Timestamp, now: Timestamp) -> Duration {
        now.since(earlier).min(self.clock_stable_for)
    }
}
