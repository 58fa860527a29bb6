//! The last sentence of a run: what was listed, and what became of every item of it.

use crate::cli::exit::Exit;
use crate::engine::{Cause, State, StateMachine, Status};
use crate::human::{format_bytes, format_count, format_duration, format_rate, pluralize};
use crate::ledger::SessionCounts;
use crate::worker::{self, LoopResult, SourceOutcome, StartError};

/// How a source ended: the code it deserves, and the sentence.
#[must_use]
pub(super) fn closing(source: &str, end: &SourceOutcome) -> (Exit, String) {
    match end {
        SourceOutcome::NotStarted(refusal) => refused(refusal),
        SourceOutcome::Finished(ended) => match ended.exit {
            worker::LoopExit::Completed => (settled(&ended.counts), account(source, &ended.counts)),
            worker::LoopExit::NothingToDo => {
                (settled(&ended.counts), format!("nothing new: {}", account(source, &ended.counts)))
            }
            // The code says who asked; the run decides by the signal.
            worker::LoopExit::Stopped => (Exit::Done, format!("stopped: {}", so_far(ended))),
            worker::LoopExit::Restart(cause) => {
                (Exit::StartAgain, format!("{}: {}", cause.reason(), so_far(ended)))
            }
            worker::LoopExit::GaveUp => gave_up(ended),
        },
        SourceOutcome::RestartDisabled(ended) => match ended.exit {
            worker::LoopExit::Restart(crate::engine::RestartCause::Completed) => {
                (settled(&ended.counts), account(source, &ended.counts))
            }
            worker::LoopExit::Completed
            | worker::LoopExit::NothingToDo
            | worker::LoopExit::Stopped
            | worker::LoopExit::GaveUp
            | worker::LoopExit::Restart(_) => {
                let (exit, why) = gave_up(ended);
                (exit, format!("{why}; it stays down, since enable_auto_restart is false"))
            }
        },
    }
}

/// `listed 2000 = stored 1998 + gone 1 + quarantined 1`, how to see the ones that are missing, and
/// beside it new versions and copies, where there are any.
#[must_use]
pub(super) fn account(source: &str, tally: &SessionCounts) -> String {
    let SessionCounts { listed, stored, gone, quarantined, .. } = tally;
    let mut sum =
        format!("listed {listed} = stored {stored} + gone {gone} + quarantined {quarantined}");
    sum.push_str(&beside(tally));
    match quarantined {
        0 => sum,
        1 => format!("{sum}    (cynosure failures {source} shows the one)"),
        many => format!("{sum}    (cynosure failures {source} shows the {})", format_count(*many)),
    }
}

/// Other contents of known documents, and documents that were not fetched since their bytes were
/// there.
fn beside(tally: &SessionCounts) -> String {
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
pub(super) fn speed(end: &SourceOutcome) -> Option<String> {
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

fn settled(tally: &SessionCounts) -> Exit {
    if tally.quarantined > 0 { Exit::SomeQuarantined } else { Exit::Done }
}

fn so_far(ended: &LoopResult) -> String {
    let tally = &ended.counts;
    let state = ended.machine.status().name().replace('_', " ");
    format!(
        "{state} at {} of {}; the next run goes on from here",
        format_count(tally.settled()),
        format_count(tally.listed)
    )
}

fn gave_up(ended: &LoopResult) -> (Exit, String) {
    let machine = &ended.machine;
    // An error from before the present state is not what it waits for.
    let error = machine.last_error.as_ref().filter(|error| error.at >= machine.state_since);
    if let (State::Error { .. }, None) = (&machine.state, error) {
        return (Exit::Other, format!("{}; the next run goes on from here", machine.reason));
    }
    let (exit, remedy) = remedy(machine, ended.has_never_worked);
    let what = error.map_or(&machine.reason, |error| &error.message);
    (exit, format!("{what}; {remedy}"))
}

fn remedy(machine: &StateMachine, never_worked: bool) -> (Exit, &'static str) {
    let cause = machine.last_error.as_ref().map(|error| error.cause);
    if machine.status() == Status::AuthFailed && cause == Some(Cause::AccountChanged) {
        return (Exit::Authentication, "or put a credential of the first account in place");
    }
    if machine.status() == Status::AuthFailed {
        return (Exit::Authentication, "put a fresh credential in place and run again");
    }
    match (&machine.state, cause) {
        (State::Error { .. }, Some(Cause::Storage | Cause::Ledger)) => {
            (Exit::Storage, "nothing that is stored is lost")
        }
        (State::Error { .. }, Some(Cause::NotFound | Cause::Challenge)) if never_worked => {
            (Exit::Configuration, "check the `url` of the source; `cynosure config show` prints it")
        }
        (State::Error { .. }, _) if never_worked => {
            (Exit::Other, "check the network, and the `url` of the source")
        }
        _ => (Exit::Other, "run again later; it goes on from here"),
    }
}

fn refused(refusal: &StartError) -> (Exit, String) {
    let exit = match refusal {
        StartError::Locked { .. } => Exit::Other,
        StartError::NewerFormat(_) | StartError::Configuration(_) => Exit::Configuration,
        StartError::StorageUnusable(_) | StartError::Failed(_) => Exit::Storage,
    };
    (exit, refusal.to_string())
}
