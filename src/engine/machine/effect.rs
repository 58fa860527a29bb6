//! Effects of the state machine: actions for the worker.

use crate::engine::machine::event::SyncScope;
use crate::engine::machine::{StateMachine, SyncPhase};
use crate::engine::{SessionId, Timestamp};

/// Machine after one event, and the effects to perform.
#[derive(Debug, PartialEq)]
#[must_use = "an effect that is dropped never happens"]
pub struct Step {
    pub machine: StateMachine,
    pub effects: Vec<Effect>,
}

/// Action for the worker. Actions are performed in the order given.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Effect {
    /// Poll the source for changes.
    Poll,
    /// Open a session in the ledger.
    OpenSession { session: SessionId, sync_scope: SyncScope },
    /// Continue the listing from the saved page token.
    ContinueListing,
    /// List everything in the open session from the beginning, after pinning a new cursor.
    RestartListing,
    /// Fetch the listed items that are not settled.
    Download,
    /// Send one request at a time until enough of them succeed (half-open).
    Probe,
    /// Send nothing before this time.
    Throttle { until: Timestamp },
    /// Start no more requests; those in flight may end.
    Pause,
    /// Drop the requests in flight and reload the credential.
    RefreshCredential,
    /// Drop the requests in flight and restart the phase.
    RestartPhase,
    /// Close the session in the ledger.
    CloseSession,
    /// Do nothing until the next poll.
    BecomeIdle,
    /// Send an alert.
    Alert { message: String },
    /// End the worker, so that it is restarted.
    Restart { cause: RestartCause },
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

impl Step {
    pub(super) fn with_effect(mut self, effect: Effect) -> Self {
        self.effects.push(effect);
        self
    }
}

impl SyncPhase {
    pub(super) fn start_effect(self) -> Effect {
        match self {
            Self::Polling => Effect::Poll,
            Self::Collecting => Effect::ContinueListing,
            Self::Downloading => Effect::Download,
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
