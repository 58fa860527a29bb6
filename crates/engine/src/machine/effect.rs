//! Effects of the state machine: actions for the worker.

use crate::machine::event::SyncScope;
use crate::machine::{RestartCause, StateMachine, SyncPhase};
use crate::{SessionId, Timestamp};

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
    /// Make the circuit breaker of the provider half-open if it is closed: one request at a time,
    /// until enough of them succeed.
    RequireProbes,
    /// Send one request that changes nothing before items are fetched.
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
