//! State of the machine, as it is persisted.

use crate::machine::error_history::ErrorHistory;
use crate::machine::listing_mode::ListingMode;
use crate::machine::progress_tracker::ProgressTracker;
use crate::machine::restart_history::RestartHistory;
use crate::machine::sync_history::SyncHistory;
use crate::{ClockStep, MachineConfig, SessionId, Timestamp};

/// Status of a source as shown to users, one of seven.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub enum Status {
    #[default]
    Idle,
    Collecting,
    Downloading,
    Completed,
    Error,
    RateLimited,
    AuthFailed,
}

/// Phase of work, in which progress is expected.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SyncPhase {
    /// Polling for changes; shown as `idle`.
    Polling,
    Collecting,
    Downloading,
}

/// Continuation after the wait that follows an error.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum AfterWait {
    Resume,
    /// Restart the worker, because the retries are used up.
    Restart,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum State {
    Idle { until: Timestamp },
    Working(SyncPhase),
    Completed,
    Error { until: Timestamp, resume_phase: SyncPhase, after_wait: AfterWait },
    RateLimited { until: Timestamp, resume_phase: SyncPhase },
    AuthFailed { until: Timestamp, resume_phase: SyncPhase },
}

/// State of the credential since the last success.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum CredentialState {
    Valid,
    /// Refused, and being reloaded.
    Refreshing,
    /// Replaced by another one than was refused; not yet confirmed by a success.
    Refreshed,
}

/// One run from idle to completed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Session {
    pub id: SessionId,
    pub started_at: Timestamp,
    pub completed_at: Option<Timestamp>,
}

/// Whole state of the machine. The state file and the ledger persist it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct StateMachine {
    pub state: State,
    /// Reason for this state, in one line.
    pub reason: String,
    pub state_since: Timestamp,
    /// Open session, or the last one.
    pub session: Option<Session>,
    pub sync: SyncHistory,
    pub progress: ProgressTracker,
    pub errors: ErrorHistory,
    /// End of a wait that is too short for a separate state.
    pub throttled_until: Timestamp,
    pub restarts: RestartHistory,
    pub listing: ListingMode,
    pub credential: CredentialState,
    /// Start time of this worker.
    pub running_since: Timestamp,
}

impl StateMachine {
    /// Creates a machine that has never run and polls at once.
    #[must_use]
    pub fn new(now: Timestamp) -> Self {
        Self {
            state: State::Idle { until: now },
            reason: "never run before".to_owned(),
            state_since: now,
            session: None,
            sync: SyncHistory::default(),
            progress: ProgressTracker::new(now),
            errors: ErrorHistory::default(),
            throttled_until: now,
            restarts: RestartHistory::default(),
            listing: ListingMode::default(),
            credential: CredentialState::Valid,
            running_since: now,
        }
    }

    #[must_use]
    pub fn status(&self) -> Status {
        self.state.status()
    }

    /// Shifts the machine by a clock step, so that waits and elapsed times keep their length. Past
    /// events keep their date.
    #[must_use]
    pub fn shifted_by(self, step: ClockStep) -> Self {
        let session = self.session.map(|session| match self.state {
            // The delay before the next session counts from there.
            State::Completed => Session {
                completed_at: session.completed_at.map(|at| at.shifted_by(step)),
                ..session
            },
            State::Idle { .. }
            | State::Working(_)
            | State::Error { .. }
            | State::RateLimited { .. }
            | State::AuthFailed { .. } => session,
        });
        Self {
            state: self.state.shifted_by(step),
            state_since: self.state_since.shifted_by(step),
            session,
            sync: self.sync.shifted_by(step),
            progress: self.progress.shifted_by(step),
            throttled_until: self.throttled_until.shifted_by(step),
            running_since: self.running_since.shifted_by(step),
            ..self
        }
    }

    pub(super) fn stuck_deadline(&self, config: &MachineConfig) -> Timestamp {
        self.progress.stuck_at(config.stuck_threshold)
    }

    pub(super) fn execution_deadline(&self, config: &MachineConfig) -> Timestamp {
        self.running_since.after(config.max_execution_time)
    }

    /// Returns the time of the next poll.
    #[must_use]
    pub fn next_poll_at(&self, config: &MachineConfig, now: Timestamp) -> Timestamp {
        self.sync.last_poll.unwrap_or(now).after(config.poll_interval)
    }

    pub(super) fn completed_at(&self) -> Timestamp {
        self.session.as_ref().and_then(|session| session.completed_at).unwrap_or(self.state_since)
    }

    /// Returns the id of the next session, from its start second; two in one second still differ.
    pub(super) fn next_session_id(&self, now: Timestamp) -> SessionId {
        let last = self.session.as_ref().and_then(|session| session.id.unix_seconds());
        let unix_seconds =
            last.map_or_else(|| now.unix_seconds(), |last| now.unix_seconds().max(last + 1));
        SessionId::from_unix_seconds(unix_seconds)
    }

    pub(super) fn record_progress(&mut self, now: Timestamp) {
        self.progress.record(now);
        self.errors.record_progress();
        // This progress may be due to the old credential, and does not confirm the next one.
        if self.credential != CredentialState::Refreshing {
            self.credential = CredentialState::Valid;
        }
    }
}

impl State {
    fn shifted_by(self, step: ClockStep) -> Self {
        match self {
            Self::Idle { until } => Self::Idle { until: until.shifted_by(step) },
            Self::Working(_) | Self::Completed => self,
            Self::Error { until, resume_phase, after_wait } => {
                Self::Error { until: until.shifted_by(step), resume_phase, after_wait }
            }
            Self::RateLimited { until, resume_phase } => {
                Self::RateLimited { until: until.shifted_by(step), resume_phase }
            }
            Self::AuthFailed { until, resume_phase } => {
                Self::AuthFailed { until: until.shifted_by(step), resume_phase }
            }
        }
    }

    #[must_use]
    pub fn status(&self) -> Status {
        match self {
            Self::Idle { .. } | Self::Working(SyncPhase::Polling) => Status::Idle,
            Self::Working(SyncPhase::Collecting) => Status::Collecting,
            Self::Working(SyncPhase::Downloading) => Status::Downloading,
            Self::Completed => Status::Completed,
            Self::Error { .. } => Status::Error,
            Self::RateLimited { .. } => Status::RateLimited,
            Self::AuthFailed { .. } => Status::AuthFailed,
        }
    }
}

impl Status {
    pub const ALL: [Self; 7] = [
        Self::Idle,
        Self::Collecting,
        Self::Downloading,
        Self::Completed,
        Self::Error,
        Self::RateLimited,
        Self::AuthFailed,
    ];

    /// Returns the name in the state file, the ledger and the log.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Collecting => "collecting",
            Self::Downloading => "downloading",
            Self::Completed => "completed",
            Self::Error => "error",
            Self::RateLimited => "rate_limited",
            Self::AuthFailed => "auth_failed",
        }
    }

    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.name() == name)
    }
}
