//! State of the machine, as it is persisted.

use crate::engine::{Cause, ClockStep, MachineConfig, SessionId, Timestamp};

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

#[derive(Clone, Debug, Eq, PartialEq)]
pub struct LastError {
    pub cause: Cause,
    pub message: String,
    pub at: Timestamp,
}

/// Cause of a restart of the worker.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum RestartCause {
    Completed,
    Errors,
    Authentication,
    Stuck,
    ExecutionTime,
}

/// Last restart of the worker that was requested, by itself or from outside.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct LastRestart {
    pub cause: RestartCause,
    pub at: Timestamp,
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
    pub last_poll: Option<Timestamp>,
    pub last_progress: Timestamp,
    pub last_error: Option<LastError>,
    /// Session errors in total, since the ledger was created.
    pub error_count: u32,
    /// Errors since the last progress, across restarts.
    pub consecutive_errors: u32,
    /// Errors since the last progress or restart: the number of the current retry.
    pub retry_count: u32,
    /// Rate limits since the last progress.
    pub consecutive_rate_limits: u32,
    /// End of a wait that is too short for a separate state.
    pub throttled_until: Timestamp,
    pub restart_count: u32,
    pub last_restart: Option<LastRestart>,
    /// Consecutive listings that ended before the server's own total.
    pub incomplete_listings: u32,
    /// True while everything is listed because the cursor expired.
    pub is_full_resync: bool,
    /// True while changes that were found during a download are listed in the same session.
    pub is_listing_changes: bool,
    pub credential: CredentialState,
    /// Start time of this worker.
    pub running_since: Timestamp,
    /// Time from which on progress is expected.
    pub progress_expected_since: Timestamp,
    /// Number of escalation steps taken for stuck work.
    pub stuck_escalation_level: u32,
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
            last_poll: None,
            last_progress: now,
            last_error: None,
            error_count: 0,
            consecutive_errors: 0,
            retry_count: 0,
            consecutive_rate_limits: 0,
            throttled_until: now,
            restart_count: 0,
            last_restart: None,
            incomplete_listings: 0,
            is_full_resync: false,
            is_listing_changes: false,
            credential: CredentialState::Valid,
            running_since: now,
            progress_expected_since: now,
            stuck_escalation_level: 0,
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
            last_poll: self.last_poll.map(|at| at.shifted_by(step)),
            last_progress: self.last_progress.shifted_by(step),
            throttled_until: self.throttled_until.shifted_by(step),
            running_since: self.running_since.shifted_by(step),
            progress_expected_since: self.progress_expected_since.shifted_by(step),
            ..self
        }
    }

    pub(super) fn record_restart(&mut self, cause: RestartCause, now: Timestamp) {
        self.restart_count = self.restart_count.saturating_add(1);
        self.last_restart = Some(LastRestart { cause, at: now });
    }

    /// Records a restart that was requested from outside at `at` for lack of progress. A restart
    /// that is recorded already is not counted again.
    pub fn record_external_restart(&mut self, at: Timestamp) {
        if self.last_restart.is_none_or(|last| last.at < at) {
            self.record_restart(RestartCause::Stuck, at);
        }
    }

    pub(super) fn stuck_deadline(&self, config: &MachineConfig) -> Timestamp {
        self.progress_expected_since.after(config.stuck_threshold)
    }

    pub(super) fn execution_deadline(&self, config: &MachineConfig) -> Timestamp {
        self.running_since.after(config.max_execution_time)
    }

    /// Returns the time of the next poll.
    #[must_use]
    pub fn next_poll_at(&self, config: &MachineConfig, now: Timestamp) -> Timestamp {
        self.last_poll.unwrap_or(now).after(config.poll_interval)
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
        self.last_progress = now;
        self.progress_expected_since = now;
        self.stuck_escalation_level = 0;
        self.consecutive_errors = 0;
        self.retry_count = 0;
        self.consecutive_rate_limits = 0;
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

impl RestartCause {
    const ALL: [Self; 5] =
        [Self::Completed, Self::Errors, Self::Authentication, Self::Stuck, Self::ExecutionTime];

    /// Returns the name in the state file.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::Errors => "errors",
            Self::Authentication => "authentication",
            Self::Stuck => "stuck",
            Self::ExecutionTime => "execution_time",
        }
    }

    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|cause| cause.name() == name)
    }

    /// Returns the reason as text for people.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Self::Completed => "the session is completed",
            Self::Errors => "restarting after too many errors",
            Self::Authentication => "restarting with the reloaded credential",
            Self::Stuck => "restarting after a time without progress",
            Self::ExecutionTime => "restarting after the maximum execution time",
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
