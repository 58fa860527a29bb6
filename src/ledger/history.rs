//! Transitions of the state machine.

use cynosure_engine::{SessionId, Timestamp};

/// One transition of the state machine.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TransitionRow {
    pub at: Timestamp,
    /// Name of the state, as in the state file; `to` likewise.
    pub from: String,
    pub to: String,
    pub reason: String,
    pub session: Option<SessionId>,
}
