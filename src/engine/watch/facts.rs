//! What is seen of workers and their unit at one moment.

use std::time::Duration;

use crate::engine::watch::UnitStatus;
use crate::engine::{Cause, Status, Timestamp};

/// One source of the configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct Watched {
    pub name: String,
    pub told: Told,
}

/// What its state file tells.
#[derive(Clone, Debug, PartialEq)]
pub enum Told {
    /// There is none, and nothing else of it.
    NeverRun,
    Course(Course),
    /// It has run, and its file does not tell how far: why.
    Nothing {
        why: String,
    },
}

/// How far a source is, as its worker last said.
#[derive(Clone, Debug, PartialEq)]
pub struct Course {
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
    pub process: Process,
}

/// The process that wrote it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Process {
    Running {
        pid: u32,
    },
    /// It has said goodbye.
    Left,
    /// It is gone, and its last word still stands.
    Died {
        pid: u32,
    },
}

/// What systemd says of the unit.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum UnitSeen {
    /// With the starts by systemd since an earlier look, where there was one.
    Known { unit: UnitStatus, lately: Option<Lately> },
    /// There is no systemd here.
    NoSystemd { why: String },
    /// There is, and it does not tell.
    Untold { why: String, remedy: String },
}

/// How often a unit was started by systemd within a time.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Lately {
    pub starts: u32,
    pub within: Duration,
}

/// From where on something is amiss.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Limits {
    /// How long after its deadline a worker may still be about to act.
    pub grace: Duration,
    /// Work without progress for this long is stuck.
    pub stuck_threshold: Duration,
    /// Errors without progress between them.
    pub max_consecutive_errors: u32,
    /// How long a start or a stop may take.
    pub max_turn: Duration,
    /// More starts by systemd than this, lately, are a crash loop.
    pub max_starts: u32,
    /// For how long the clock was not set, and the machine not asleep, as far as is known: before,
    /// nothing was late that seems to be.
    pub clock_kept: Duration,
}

impl Limits {
    /// The time since then, as far as it is known.
    pub(super) fn known_since(&self, then: Timestamp, now: Timestamp) -> Duration {
        now.since(then).min(self.clock_kept)
    }
}
