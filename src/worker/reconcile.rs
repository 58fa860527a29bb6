//! Reconciles the saved machine with the ledger.
//!
//! Each is durable by itself, and either may have been lost or restored from a backup. The ledger
//! decides which sessions are open, listed and settled.

use cynosure_engine::{Session, State, StateMachine, SyncPhase, Timestamp};

use crate::ledger;

/// Returns the machine after reconciling it with the newest session of the ledger.
pub(super) fn reconcile(
    mut machine: StateMachine,
    newest: Option<&ledger::SessionRow>,
    now: Timestamp,
) -> StateMachine {
    let is_completed_in_ledger = |session: &Session| {
        newest.is_some_and(|newest| newest.id == session.id && newest.completed_at.is_some())
    };
    let completed = machine.session.as_ref().filter(|session| session.completed_at.is_some());
    if completed.is_some_and(|session| !is_completed_in_ledger(session)) {
        // The ledger is older than the state, as after its restoration, and may lack documents.
        machine.sync.forget_completeness();
    }
    let open = newest.filter(|newest| newest.completed_at.is_none());
    if let Some(open) = open {
        // No other session can begin before this one is completed.
        let (id, started_at) = (open.id.clone(), open.started_at);
        machine.session = Some(Session { id, started_at, completed_at: None });
    }
    let id = machine.session.as_ref().map(|session| &session.id);
    let current = newest.filter(|newest| Some(&newest.id) == id);
    let is_listed = current.is_some_and(|session| session.is_listing_complete);
    let allowed_phase = |phase| match phase {
        SyncPhase::Polling if open.is_some() => SyncPhase::Collecting,
        SyncPhase::Collecting | SyncPhase::Downloading if id.is_none() => SyncPhase::Polling,
        // The listing is not complete in the ledger, so it is done again.
        SyncPhase::Downloading if !is_listed => SyncPhase::Collecting,
        SyncPhase::Polling | SyncPhase::Collecting | SyncPhase::Downloading => phase,
    };
    machine.state = match machine.state {
        State::Idle { .. } | State::Completed if open.is_some() => {
            State::Working(SyncPhase::Collecting)
        }
        State::Completed if current.is_none() => State::Idle { until: now },
        State::Idle { .. } | State::Completed => machine.state,
        State::Working(phase) => State::Working(allowed_phase(phase)),
        State::Error { until, resume_phase, after_wait } => {
            State::Error { until, resume_phase: allowed_phase(resume_phase), after_wait }
        }
        State::RateLimited { until, resume_phase } => {
            State::RateLimited { until, resume_phase: allowed_phase(resume_phase) }
        }
        State::AuthFailed { until, resume_phase } => {
            State::AuthFailed { until, resume_phase: allowed_phase(resume_phase) }
        }
    };
    machine
}
