//! Brings the machine, as it was saved, into agreement with the ledger.
//!
//! Each is durable on its own, and either may have been lost or put back from a copy.
//! The ledger is right about what is begun, listed and settled.

use crate::engine::{Machine, Session, State, Timestamp, Work};
use crate::ledger;

/// Returns the machine as the ledger allows it, given its newest session.
pub(super) fn reconciled(
    mut machine: Machine,
    newest: Option<&ledger::Session>,
    now: Timestamp,
) -> Machine {
    let open = newest.filter(|newest| newest.completed.is_none());
    if let Some(open) = open {
        // No other can begin before it is completed.
        let (id, started) = (open.id.clone(), open.started);
        machine.session = Some(Session { id, started, completed: None });
    }
    let id = machine.session.as_ref().map(|session| &session.id);
    let known = newest.filter(|newest| Some(&newest.id) == id);
    let is_listed = known.is_some_and(|session| session.is_listed);
    let allowed = |work| match work {
        Work::Looking if open.is_some() => Work::Collecting,
        Work::Collecting | Work::Downloading if id.is_none() => Work::Looking,
        // What was collected and is not there is collected again.
        Work::Downloading if !is_listed => Work::Collecting,
        Work::Looking | Work::Collecting | Work::Downloading => work,
    };
    machine.state = match machine.state {
        State::Idle { .. } | State::Completed if open.is_some() => State::Working(Work::Collecting),
        State::Completed if known.is_none() => State::Idle { until: now },
        State::Idle { .. } | State::Completed => machine.state,
        State::Working(work) => State::Working(allowed(work)),
        State::Error { until, resume, then } => {
            State::Error { until, resume: allowed(resume), then }
        }
        State::RateLimited { until, resume } => {
            State::RateLimited { until, resume: allowed(resume) }
        }
        State::AuthFailed { until, resume } => State::AuthFailed { until, resume: allowed(resume) },
    };
    machine
}
