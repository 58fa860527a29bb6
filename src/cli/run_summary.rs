//! The last sentence of a run: what was listed, and what became of every item of it.

use crate::cli::exit::ProgramExit;
use crate::engine::{Cause, State, StateMachine, Status};
use crate::human::{format_bytes, format_count, format_duration, format_rate, pluralize};
use crate::ledger::SessionCounts;
use crate::worker::{self, LoopResult, SourceOutcome, StartError};

/// How a source ended: the code it deserves, and the sentence.
#[must_use]
pub(super) fn run_summary(source: &str, end: &SourceOutcome) -> (ProgramExit, String) {
    match end {
        SourceOutcome::NotStarted(refusal) => start_error_exit(refusal),
        SourceOutcome::Finished(ended) => match ended.exit {
            worker::LoopExit::Completed => {
                (completed_exit(&ended.counts), balance(source, &ended.counts))
            }
            worker::LoopExit::NothingToDo => (
                completed_exit(&ended.counts),
                format!("nothing new: {}", balance(source, &ended.counts)),
            ),
            // The code says who asked; the run decides by the signal.
            worker::LoopExit::Stopped => {
                (ProgramExit::Success, format!("stopped: {}", progress_text(ended)))
            }
            worker::LoopExit::Restart(cause) => {
                (ProgramExit::Restart, format!("{}: {}", cause.reason(), progress_text(ended)))
            }
            worker::LoopExit::GaveUp => exit_and_reason(ended),
        },
        SourceOutcome::RestartDisabled(ended) => match ended.exit {
            worker::LoopExit::Restart(crate::engine::RestartCause::Completed) => {
                (completed_exit(&ended.counts), balance(source, &ended.counts))
            }
            worker::LoopExit::Completed
            | worker::LoopExit::NothingToDo
            | worker::LoopExit::Stopped
            | worker::LoopExit::GaveUp
            | worker::LoopExit::Restart(_) => {
                let (exit, why) = exit_and_reason(ended);
                (exit, format!("{why}; it stays down, since enable_auto_restart is false"))
            }
        },
    }
}

/// `listed 2000 = stored 1998 + gone 1 + quarantined 1`, how to see the ones that are missing, and
/// beside it new versions and copies, where there are any.
#[must_use]
pub(super) fn balance(source: &str, tally: &SessionCounts) -> String {
    let SessionCounts { listed, stored, gone, quarantined, .. } = tally;
    let mut sum =
        format!("listed {listed} = stored {stored} + gone {gone} + quarantined {quarantined}");
    sum.push_str(&versions_and_copies(tally));
    match quarantined {
        0 => sum,
        1 => format!("{sum}    (cynosure failures {source} shows the one)"),
        many => format!("{sum}    (cynosure failures {source} shows the {})", format_count(*many)),
    }
}

/// Other contents of known documents, and documents that were not fetched since their bytes were
/// there.
fn versions_and_copies(tally: &SessionCounts) -> String {
    match (tally.versions, tally.copies) {
        (0, 0) => String::new(),
        (versions, copies) => {
            let copies =
                format!("{} {}", format_count(copies), if copies == 1 { "copy" } else { "copies" });
            format!("; {}, {copies}", pluralize(versions, "new version"))
        }
    }
}

/// How much came in, and how fast: `3,200 documents, 31.8 MB in 4.0 s, 500.0/s` (items). Nothing
/// for a session that was not completed, or fetched nothing.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "a rate for people")]
pub(super) fn transfer_summary(end: &SourceOutcome) -> Option<String> {
    let SourceOutcome::Finished(LoopResult {
        exit: worker::LoopExit::Completed,
        machine,
        counts: tally,
        ..
    }) = end
    else {
        return None;
    };
    let session = machine.session.as_ref()?;
    let took = session.completed_at?.since(session.started_at);
    let per_second = tally.settled() as f64 / took.as_secs_f64();
    let (documents, bytes) = (format_count(tally.documents), format_bytes(tally.bytes));
    let time = match took.as_secs() {
        ..10 => format!("{:.1} s", took.as_secs_f64()),
        10.. => format_duration(took),
    };
    (tally.documents > 0 && !took.is_zero())
        .then(|| format!("{documents} documents, {bytes} in {time}, {}", format_rate(per_second)))
}

fn completed_exit(tally: &SessionCounts) -> ProgramExit {
    if tally.quarantined > 0 { ProgramExit::SomeQuarantined } else { ProgramExit::Success }
}

fn progress_text(ended: &LoopResult) -> String {
    let tally = &ended.counts;
    let state = ended.machine.status().name().replace('_', " ");
    format!(
        "{state} at {} of {}; the next run goes on from here",
        format_count(tally.settled()),
        format_count(tally.listed)
    )
}

fn exit_and_reason(ended: &LoopResult) -> (ProgramExit, String) {
    let machine = &ended.machine;
    // An error from before the present state is not what it waits for.
    let error = machine.last_error.as_ref().filter(|error| error.at >= machine.state_since);
    if let (State::Error { .. }, None) = (&machine.state, error) {
        return (ProgramExit::Other, format!("{}; the next run goes on from here", machine.reason));
    }
    let (exit, remedy) = exit_and_remedy(machine, ended.has_never_worked);
    let what = error.map_or(&machine.reason, |error| &error.message);
    (exit, format!("{what}; {remedy}"))
}

fn exit_and_remedy(machine: &StateMachine, never_worked: bool) -> (ProgramExit, &'static str) {
    let cause = machine.last_error.as_ref().map(|error| error.cause);
    if machine.status() == Status::AuthFailed && cause == Some(Cause::AccountChanged) {
        return (ProgramExit::Authentication, "or put a credential of the first account in place");
    }
    if machine.status() == Status::AuthFailed {
        return (ProgramExit::Authentication, "put a fresh credential in place and run again");
    }
    match (&machine.state, cause) {
        (State::Error { .. }, Some(Cause::Storage | Cause::Ledger)) => {
            (ProgramExit::Storage, "nothing that is stored is lost")
        }
        (State::Error { .. }, Some(Cause::NotFound | Cause::Challenge)) if never_worked => (
            ProgramExit::Configuration,
            "check the `url` of the source; `cynosure config show` prints it",
        ),
        (State::Error { .. }, _) if never_worked => {
            (ProgramExit::Other, "check the network, and the `url` of the source")
        }
        _ => (ProgramExit::Other, "run again later; it goes on from here"),
    }
}

fn start_error_exit(refusal: &StartError) -> (ProgramExit, String) {
    let exit = match refusal {
        StartError::Locked { .. } => ProgramExit::Other,
        StartError::NewerFormat(_) | StartError::Configuration(_) => ProgramExit::Configuration,
        StartError::StorageUnusable(_) | StartError::Failed(_) => ProgramExit::Storage,
    };
    (exit, refusal.to_string())
}
