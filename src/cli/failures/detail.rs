//! One item in full, with the last reply of the server.

use crate::cli::error::CliError;
use crate::cli::exit::ProgramExit;
use crate::cli::key_values::KeyValueTable;
use crate::cli::print::{print_result, terminal_safe_json};
use crate::cli::sources::SourceRef;
use crate::config::SourceName;
use crate::engine::{ItemId, Timestamp, sanitize_line, sanitize_lines};
use crate::human::{format_date_time, format_deadline, pluralize};
use crate::ledger::{FailureRow, ItemStatus, StoredResponse};
use crate::worker::{Env, RealEnv};

/// Shows how the item stands in each source that knows it.
pub(super) fn print_item(
    sources: &[SourceRef],
    item: &str,
    json: bool,
) -> Result<ProgramExit, CliError> {
    let id = ItemId::new(item);
    let mut exit = ProgramExit::Other;
    for source in sources {
        let row = match source.open_ledger()? {
            Some(ledger) => ledger.item_failure(&id)?,
            None => None,
        };
        let Some(row) = row else { continue };
        if json {
            print_result(terminal_safe_json(&super::failure_json(&source.name, &row)))?;
        } else {
            if exit == ProgramExit::Success {
                print_result("")?;
            }
            print_result(item_facts(&source.name, &row, RealEnv.now()).render())?;
        }
        exit = ProgramExit::Success;
    }
    if exit == ProgramExit::Success {
        return Ok(exit);
    }
    let why = format!(
        "no item {} was ever listed; `cynosure failures` shows what has failed",
        sanitize_line(item)
    );
    Err(CliError::new(ProgramExit::Other, why))
}

fn item_facts(source: &SourceName, row: &FailureRow, now: Timestamp) -> KeyValueTable {
    let mut facts = KeyValueTable::default();
    facts.add("item", format!("{} of {source}", sanitize_line(row.item.as_str())));
    facts.add("state", state_text(row));
    if let Some(at) = row.failed_at {
        facts.add("failed", format_date_time(at));
    }
    if let Some(at) = row.next_attempt_at.filter(|_| has_pending_retry(row.status)) {
        facts.add(
            "next",
            if at <= now { "at the next look".to_owned() } else { format_deadline(at, now) },
        );
    }
    if let Some(cause) = row.cause {
        facts.add("cause", format!("{cause} ({})", cause.category().name()));
    }
    if !row.message.is_empty() {
        facts.add("why", sanitize_line(&row.message));
    }
    match &row.last_response {
        Some(replied) => facts.add_all("reply", reply_text(replied)),
        None if row.cause.is_some() => {
            facts.add("reply", "none was kept: the server did not answer, or it was long ago");
        }
        None => {}
    }
    facts
}

fn has_pending_retry(status: ItemStatus) -> bool {
    match status {
        ItemStatus::Pending | ItemStatus::Quarantined => true,
        ItemStatus::Stored | ItemStatus::Gone => false,
    }
}

fn state_text(row: &FailureRow) -> String {
    let mut state = super::status_name(row.status).to_owned();
    if row.attempts > 0 {
        state.push_str(&format!(" after {}", pluralize(u64::from(row.attempts), "failed attempt")));
    }
    if row.quarantine_count > 1 {
        state.push_str(&format!(", {} times in a row", row.quarantine_count));
    }
    state
}

/// The reply as it came, as far as it was kept, fit to be printed.
fn reply_text(replied: &StoredResponse) -> Vec<String> {
    let reply = &replied.response;
    let mut lines = vec![format!("{}, on {}", reply.status, format_date_time(replied.at))];
    lines.extend(
        reply.headers.iter().map(|(name, value)| sanitize_line(&format!("{name}: {value}"))),
    );
    if !reply.body.is_empty() {
        lines.push(String::new());
        lines.extend(sanitize_lines(&reply.body));
    }
    if reply.is_truncated {
        lines.push("… (the rest was not kept)".to_owned());
    }
    lines
}
