//! `failures --item`: all details of one item, with its labels and the server's last response.

use cynosure_engine::{ItemId, Timestamp, sanitize_line, sanitize_lines};

use crate::app::error::ProgramError;
use crate::app::exit::ProgramExit;
use crate::app::sources::SourceRef;
use crate::cli::key_values::KeyValueTable;
use crate::cli::print::{print_result, terminal_safe_json};
use crate::config::SourceName;
use crate::env::{Env, RealEnv};
use crate::human::{format_date_time, format_deadline, pluralize};
use crate::ledger::{FailureRow, ItemStatus, LabeledDocument, StoredResponse};

/// Documents of the item whose labels are shown. The first ones suffice to recognise it.
const LABELED_DOCUMENTS_MAX: usize = 20;

/// Prints the state of the item in each source that has listed it.
pub(super) fn print_item(
    sources: &[SourceRef],
    item: &str,
    json: bool,
) -> Result<ProgramExit, ProgramError> {
    let id = ItemId::new(item);
    let mut exit = ProgramExit::Other;
    for source in sources {
        let Some(ledger) = source.open_ledger()? else { continue };
        let Some(row) = ledger.item_report(&id)? else { continue };
        let labeled = ledger.labeled_documents(&id, LABELED_DOCUMENTS_MAX)?;
        if json {
            print_result(terminal_safe_json(&super::failure_json(&source.name, &row, &labeled)))?;
        } else {
            if exit == ProgramExit::Success {
                print_result("")?;
            }
            print_result(item_table(&source.name, &row, &labeled, RealEnv.now()).render())?;
        }
        exit = ProgramExit::Success;
    }
    if exit == ProgramExit::Success {
        return Ok(exit);
    }
    let message = format!(
        "item {} was never listed; `cynosure failures` shows the failed items",
        sanitize_line(item)
    );
    Err(ProgramError::new(ProgramExit::Other, message))
}

fn item_table(
    source: &SourceName,
    row: &FailureRow,
    labeled: &[LabeledDocument],
    now: Timestamp,
) -> KeyValueTable {
    let mut table = KeyValueTable::default();
    table.add("item", format!("{} of {source}", sanitize_line(row.item.as_str())));
    table.add_all("labels", label_lines(row, labeled));
    table.add("state", state_text(row));
    if let Some(at) = row.failed_at {
        table.add("failed", format_date_time(at));
    }
    if let Some(at) = row.next_attempt_at.filter(|_| has_pending_retry(row.status)) {
        table.add(
            "next attempt",
            if at <= now { "at the next poll".to_owned() } else { format_deadline(at, now) },
        );
    }
    if let Some(cause) = row.cause {
        table.add("cause", format!("{cause} ({})", cause.category().name()));
    }
    if !row.message.is_empty() {
        table.add("message", sanitize_line(&row.message));
    }
    match &row.last_response {
        Some(stored) => table.add_all("response", response_lines(stored)),
        None if row.cause.is_some() => {
            table.add("response", "none stored: the server did not respond, or it was long ago");
        }
        None => {}
    }
    table
}

/// Returns a line for each label, with the document unless its id is that of the item.
fn label_lines(row: &FailureRow, labeled: &[LabeledDocument]) -> Vec<String> {
    let mut lines = Vec::new();
    for LabeledDocument { document, labels } in labeled {
        let is_item = document.as_str() == row.item.as_str();
        let prefix = if is_item { String::new() } else { format!("{document} ") };
        let line =
            |(name, value): &(String, String)| sanitize_line(&format!("{prefix}{name}: {value}"));
        lines.extend(labels.iter().map(line));
    }
    lines
}

fn has_pending_retry(status: ItemStatus) -> bool {
    match status {
        ItemStatus::Pending | ItemStatus::Quarantined => true,
        ItemStatus::Stored | ItemStatus::Gone => false,
    }
}

fn state_text(row: &FailureRow) -> String {
    let mut state = row.status.name().to_owned();
    if row.attempts > 0 {
        state.push_str(&format!(" after {}", pluralize(u64::from(row.attempts), "failed attempt")));
    }
    if row.quarantine_count > 1 {
        state.push_str(&format!(", {} times in a row", row.quarantine_count));
    }
    state
}

/// Returns the lines of a stored response: status, headers and body, sanitized for a terminal.
fn response_lines(stored: &StoredResponse) -> Vec<String> {
    let response = &stored.response;
    let mut lines = vec![format!("{}, on {}", response.status, format_date_time(stored.at))];
    lines.extend(
        response.headers.iter().map(|(name, value)| sanitize_line(&format!("{name}: {value}"))),
    );
    if !response.body.is_empty() {
        lines.push(String::new());
        lines.extend(sanitize_lines(&response.body));
    }
    if response.is_truncated {
        lines.push("… (the rest was not stored)".to_owned());
    }
    lines
}
