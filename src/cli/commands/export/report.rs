//! Result of an export, for people.

use std::path::Path;

use cynosure_engine::{format_bytes, format_count, sanitize_line};

use crate::app::error::ProgramError;
use crate::app::exit::ProgramExit;
use crate::cli::key_values::KeyValueTable;
use crate::cli::print::{print_error, print_note, print_result};
use crate::export::{ExportFailure, ExportFormat, ExportOutcome, ExportState};
use crate::human::{format_date_time, pluralize};

/// Damaged documents that are printed. All of them are counted.
const DAMAGED_SHOWN_MAX: usize = 20;

/// Prints the result, and returns the exit of the program. `stop_exit` is that of an export which a
/// signal stopped.
pub(super) fn report_outcome(
    outcome: &ExportOutcome,
    dir: &Path,
    stop_exit: ProgramExit,
) -> Result<ProgramExit, ProgramError> {
    let shown_dir = sanitize_line(&dir.to_string_lossy());
    match outcome {
        ExportOutcome::Complete(state) => {
            print_result(summary(state, &shown_dir))?;
            Ok(report_damage(state))
        }
        ExportOutcome::AlreadyComplete(state) => {
            let at = state.completed_at.unwrap_or(state.started_at);
            print_result(format!(
                "The export into {shown_dir} is complete since {}: {}. Nothing was changed. To \
                 export newer messages, choose an empty or new folder.",
                format_date_time(at),
                pluralize(state.total().messages, "message")
            ))?;
            Ok(report_damage(state))
        }
        ExportOutcome::Stopped(state) => {
            let message = format!(
                "the export stopped after {}; run the same command again, which continues it",
                pluralize(state.total().messages, "message")
            );
            Ok(print_error(stop_exit, message))
        }
    }
}

/// Converts the error of an export to that of the command.
pub(super) fn export_error(failure: ExportFailure) -> ProgramError {
    match failure {
        ExportFailure::Refused(message) => ProgramError::new(ProgramExit::Other, message),
        ExportFailure::Storage(failure) => failure.into(),
    }
}

/// Returns the counts of a complete export, its place, and the next step.
fn summary(state: &ExportState, shown_dir: &str) -> String {
    let total = state.total();
    let mut table = KeyValueTable::default();
    table.add(
        "messages",
        format!("{}, {}", format_count(total.messages), format_bytes(total.bytes)),
    );
    table.add("folders", format_count(total.folders));
    let rows = [
        ("copies", total.copies, "in further folders"),
        ("earlier versions", total.earlier_versions, "in `Earlier versions`"),
        ("skipped", total.skipped, "that are no messages; `--format zip` takes them"),
        ("left out", total.older, "from before `--since`"),
        ("damaged", total.damaged, "left out"),
    ];
    for (label, number, text) in rows.into_iter().filter(|(_, number, _)| *number > 0) {
        table.add(label, format!("{} {text}", format_count(number)));
    }
    table.add("folder", shown_dir);
    table.add("next step", next_step(state.options.format));
    table.render()
}

fn next_step(format: ExportFormat) -> &'static str {
    match format {
        ExportFormat::Maildir => {
            "open a folder in it, such as with `mutt -R -f FOLDER`; README.txt explains them"
        }
        ExportFormat::Mbox => {
            "open a file in it, such as with `mutt -R -f FILE`; README.txt explains them"
        }
        ExportFormat::Zip => "check mail.zip in it with `unzip -tq`; README.txt explains it",
    }
}

/// Prints the damaged documents and their remedy, if there are any. Returns the exit.
fn report_damage(state: &ExportState) -> ProgramExit {
    let damaged = state.total().damaged;
    if damaged == 0 {
        return ProgramExit::Success;
    }
    let files = state.sources.iter().flat_map(|source| &source.damaged).take(DAMAGED_SHOWN_MAX);
    for file in files {
        let (path, reason) = (sanitize_line(&file.path), sanitize_line(&file.reason));
        print_note(format!("{path}: {reason}"));
    }
    let names = state.sources.iter().filter(|source| source.counts.damaged > 0);
    let commands: Vec<String> = names
        .map(|source| {
            let name = sanitize_line(&source.name);
            format!("`cynosure requeue --damaged --source {name}` and `cynosure run {name}`")
        })
        .collect();
    let message = format!(
        "{} missing or damaged in the archive, and not exported: fetch them again with {}, then \
         export into an empty folder",
        match damaged {
            1 => "1 document is".to_owned(),
            _ => format!("{} documents are", format_count(damaged)),
        },
        commands.join(", ")
    );
    print_error(ProgramExit::Storage, message)
}
