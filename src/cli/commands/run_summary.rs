//! Last sentence of a run: the number of listed items, and the outcome of each. Before it, the
//! table of the session.

use cynosure_engine::{Cause, State, Status, format_count};

use crate::app::exit::ProgramExit;
use crate::app::session_summary::SummaryLine;
use crate::cli::key_values::KeyValueTable;
use crate::config::{SourceAuth, SourceName};
use crate::human::{format_byte_progress, humanize, pluralize};
use crate::ledger::SessionCounts;
use crate::worker::{self, LoopResult, SourceOutcome, StartError};

pub(super) use crate::app::session_summary::transfer_time;

/// Remedy for an application whose access tokens do not open the mailbox.
pub(super) const APPLICATION_REMEDY: &str =
    "let an administrator check what the application may do and for whom, and run again";

/// Returns the exit and the sentence for the outcome of a source. `refused_remedy` is the one for a
/// credential that is refused.
#[must_use]
pub(super) fn run_summary(
    source: &str,
    outcome: &SourceOutcome,
    refused_remedy: &str,
) -> (ProgramExit, String) {
    match outcome {
        SourceOutcome::NotStarted(error) => start_error_exit(error),
        SourceOutcome::Finished(result) => match result.exit {
            worker::LoopExit::Completed => {
                (completed_exit(&result.counts), balance(source, &result.counts))
            }
            worker::LoopExit::NothingToDo => (
                completed_exit(&result.counts),
                format!("no changes: {}", balance(source, &result.counts)),
            ),
            // `run` replaces this exit according to the signal.
            worker::LoopExit::Stopped => {
                (ProgramExit::Success, format!("stopped: {}", progress_text(result)))
            }
            worker::LoopExit::Restart(cause) => {
                (ProgramExit::Restart, format!("{}: {}", cause.reason(), progress_text(result)))
            }
            worker::LoopExit::GaveUp => exit_and_reason(result, refused_remedy),
        },
        SourceOutcome::RestartDisabled(result) => match result.exit {
            worker::LoopExit::Restart(cynosure_engine::RestartCause::Completed) => {
                (completed_exit(&result.counts), balance(source, &result.counts))
            }
            worker::LoopExit::Completed
            | worker::LoopExit::NothingToDo
            | worker::LoopExit::Stopped
            | worker::LoopExit::GaveUp
            | worker::LoopExit::Restart(_) => {
                let (exit, reason) = exit_and_reason(result, refused_remedy);
                (exit, format!("{reason}; it is not restarted, since enable_auto_restart is false"))
            }
        },
    }
}

/// Returns `listed 2000 = stored 1998 + gone 1 + quarantined 1`, with the numbers of new versions
/// and copies, and the command that lists the quarantined items, if there are any.
#[must_use]
pub(super) fn balance(source: &str, counts: &SessionCounts) -> String {
    let SessionCounts { listed, stored, gone, quarantined, .. } = counts;
    let mut text =
        format!("listed {listed} = stored {stored} + gone {gone} + quarantined {quarantined}");
    text.push_str(&versions_and_copies(counts));
    match quarantined {
        0 => text,
        1 => format!("{text}    (`cynosure failures {source}` shows it)"),
        count => {
            format!("{text}    (`cynosure failures {source}` shows all {})", format_count(*count))
        }
    }
}

/// Returns the numbers of new versions of known documents, and of documents that have no file of
/// their own because the same bytes were stored already. Empty if both are zero.
fn versions_and_copies(counts: &SessionCounts) -> String {
    match (counts.versions, counts.copies) {
        (0, 0) => String::new(),
        (versions, copies) => {
            format!("; {}, {}", pluralize(versions, "new version"), pluralize(copies, "copy"))
        }
    }
}

/// Returns true if the outcome is a session that was completed in this run.
#[must_use]
pub(super) fn has_completed_session(outcome: &SourceOutcome) -> bool {
    matches!(outcome, SourceOutcome::Finished(LoopResult { exit: worker::LoopExit::Completed, .. }))
}

/// Returns the aligned lines of a summary, under the name of its source if there are several.
#[must_use]
pub(super) fn summary_table(label: Option<&str>, lines: Vec<SummaryLine>) -> String {
    let mut table = KeyValueTable::default();
    lines.into_iter().for_each(|line| table.add(line.label, line.text));
    let table = table.render();
    match label {
        Some(label) => format!("{label}:\n{table}"),
        None => table,
    }
}

fn completed_exit(counts: &SessionCounts) -> ProgramExit {
    if counts.quarantined > 0 { ProgramExit::SomeQuarantined } else { ProgramExit::Success }
}

fn progress_text(result: &LoopResult) -> String {
    let counts = &result.counts;
    let state = humanize(result.machine.status().name());
    let bytes = format_byte_progress(counts.fetched_bytes(), counts.expected_bytes)
        .filter(|_| counts.pending() > 0)
        .map_or_else(String::new, |bytes| format!(" ({bytes})"));
    format!(
        "{state} at {} of {}{bytes}; the next run continues from here",
        format_count(counts.settled()),
        format_count(counts.listed)
    )
}

fn exit_and_reason(result: &LoopResult, refused_remedy: &str) -> (ProgramExit, String) {
    let machine = &result.machine;
    // An error from before the current state is not its cause.
    let error = machine.errors.last.as_ref().filter(|error| error.at >= machine.state_since);
    if let (State::Error { .. }, None) = (&machine.state, error) {
        return (
            ProgramExit::Other,
            format!("{}; the next run continues from here", machine.reason),
        );
    }
    let (exit, remedy) = exit_and_remedy(result, refused_remedy);
    let reason = error.map_or(&machine.reason, |error| &error.message);
    (exit, format!("{reason}; {remedy}"))
}

fn exit_and_remedy<'a>(result: &LoopResult, refused_remedy: &'a str) -> (ProgramExit, &'a str) {
    let machine = &result.machine;
    let cause = machine.errors.last.as_ref().map(|error| error.cause);
    if machine.status() == Status::AuthFailed && result.is_client_refused {
        return (ProgramExit::Configuration, "correct that and run again");
    }
    if machine.status() == Status::AuthFailed {
        return credential_remedy(cause, refused_remedy);
    }
    match (&machine.state, cause) {
        (State::Error { .. }, Some(Cause::Storage | Cause::Ledger)) => {
            (ProgramExit::Storage, "stored documents are not lost")
        }
        (State::Error { .. }, _) if result.has_never_worked => address_remedy(cause),
        _ => (ProgramExit::Other, "run again later; the next run continues from here"),
    }
}

/// Returns the exit and the remedy for a credential that is refused, or is that of another account.
#[must_use]
pub(super) fn credential_remedy(cause: Option<Cause>, refused_remedy: &str) -> (ProgramExit, &str) {
    let remedy = if cause == Some(Cause::AccountChanged) {
        "or restore a credential of the first account"
    } else {
        refused_remedy
    };
    (ProgramExit::Authentication, remedy)
}

/// Returns the remedy for a source whose credential is refused.
#[must_use]
pub(super) fn refused_credential_remedy(name: &SourceName, auth: Option<&SourceAuth>) -> String {
    if let Some(SourceAuth::SignIn { .. }) = auth {
        return format!("sign in with `cynosure auth {name}` and run again");
    }
    if let Some(SourceAuth::Application { .. }) = auth {
        return APPLICATION_REMEDY.to_owned();
    }
    "replace the credential and run again".to_owned()
}

/// Returns the exit and the remedy for a source that has never worked: its address may be wrong.
#[must_use]
pub(super) fn address_remedy(cause: Option<Cause>) -> (ProgramExit, &'static str) {
    if matches!(cause, Some(Cause::NotFound | Cause::Challenge)) {
        return (
            ProgramExit::Configuration,
            "check the address of the server (`url`, `base_url` or `host`); `cynosure config show` \
             prints it",
        );
    }
    let remedy = "check the network, and the address of the server (`url`, `base_url` or `host`)";
    (ProgramExit::Other, remedy)
}

/// Returns the exit and the sentence for a source that could not start.
#[must_use]
pub(super) fn start_error_exit(error: &StartError) -> (ProgramExit, String) {
    let exit = match error {
        StartError::Locked { .. } => ProgramExit::Other,
        StartError::NewerFormat(_) | StartError::Configuration(_) => ProgramExit::Configuration,
        StartError::StorageUnusable(_) | StartError::Failed(_) => ProgramExit::Storage,
    };
    (exit, error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_is_under_the_name_of_its_source() {
        let lines = || {
            [("new", "1 message"), ("archive", "/mail")]
                .map(|(label, text)| SummaryLine { label, text: text.to_owned() })
                .to_vec()
        };

        assert_eq!(summary_table(None, lines()), "new      1 message\narchive  /mail");
        let named = summary_table(Some("work"), lines());
        assert_eq!(named, "work:\nnew      1 message\narchive  /mail");
    }
}
