//! What the machine wants done.

use crate::engine::machine::event::SyncScope;
use crate::engine::machine::{StateMachine, SyncPhase};
use crate::engine::{SessionId, Timestamp};

/// The machine after one fact, and what must be done to get there.
#[derive(Debug, PartialEq)]
#[must_use = "an effect that is dropped never happens"]
pub struct Step {
    pub machine: StateMachine,
    pub effects: Vec<Effect>,
}

/// Something the worker must do, in the order given.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Effect {
    /// Ask the source for news.
    Poll,
    /// Open a session in the ledger.
    OpenSession { session: SessionId, sync_scope: SyncScope },
    /// List on from the saved place.
    ContinueListing,
    /// List everything in the open session, from the beginning, pinning a new cursor first.
    RestartListing,
    /// Fetch what is listed and not settled.
    Download,
    /// Ask with one request at a time until the source has proved itself.
    Probe,
    /// Send nothing before this moment.
    Throttle { until: Timestamp },
    /// Start nothing more; what is in flight may end.
    Pause,
    /// Drop what is in flight and read the credential again.
    RefreshCredential,
    /// Drop what is in flight and begin the stage anew.
    RestartPhase,
    /// Close the session in the ledger.
    CloseSession,
    /// There is nothing to do until the next look.
    BecomeIdle,
    /// Tell a person.
    Alert { message: String },
    /// Leave, to be started anew.
    Restart { cause: RestartCause },
}

/// Why the worker is started anew.
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

    /// The word in the state file.
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

    /// Why, as a person reads it.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Self::Completed => "the session is completed",
            Self::Errors => "starting anew after too many errors",
            Self::Authentication => "starting anew with the credential read again",
            Self::Stuck => "starting anew, since nothing moved",
            Self::ExecutionTime => "starting anew after the longest execution time",
        }
    }
}
