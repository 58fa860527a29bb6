//! Brings the machine, as it was saved, into agreement with the ledger.
//!
//! Each is durable on its own, and either may have been lost or put back from a copy.
//! The ledger is right about what is begun, listed and settled.

use crate::engine::{Session, State, StateMachine, SyncPhase, Timestamp};
use crate::ledger;

/// Returns the machine as the ledger allows it, given its newest session.
pub(super) fn reconcile(
    mut machine: StateMachine,
    newest: Option<&ledger::SessionRow>,
    now: Timestamp,
) -> StateMachine {
    let open = newest.filter(|newest| newest.completed_at.is_none());
    if let Some(open) = open {
        // No other can begin before it is completed.
        let (id, started) = (open.id.clone(), open.started_at);
        machine.session = Some(Session { id, started_at: started, completed_at: None });
    }
    let id = machine.session.as_ref().map(|session| &session.id);
    let known = newest.filter(|newest| Some(&newest.id) == id);
    let is_listed = known.is_some_and(|session| session.is_listing_complete);
    let allowed = |work| match work {
        SyncPhase::Polling if open.is_some() => SyncPhase::Collecting,
        SyncPhase::Collecting | SyncPhase::Downloading if id.is_none() => SyncPhase::Polling,
        // What was collected and is not there is collected again.
        SyncPhase::Downloading if !is_listed => SyncPhase::Collecting,
        SyncPhase::Polling | SyncPhase::Collecting | SyncPhase::Downloading => work,
    };
    machine.state = match machine.state {
        State::Idle { .. } | State::Completed if open.is_some() => {
            State::Working(SyncPhase::Collecting)
        }
        State::Completed if known.is_none() => State::Idle { until: now },
        State::Idle { .. } | State::Completed => machine.state,
        State::Working(work) => State::Working(allowed(work)),
        State::Error { until, resume_phase: resume, after_wait: then } => {
            State::Error { until, resume_phase: allowed(resume), after_wait: then }
        }
        State::RateLimited { until, resume_phase: resume } => {
            State::RateLimited { until, resume_phase: allowed(resume) }
        }
        State::AuthFailed { until, resume_phase: resume } => {
            State::AuthFailed { until, resume_phase: allowed(resume) }
        }
    };
    machine
}
