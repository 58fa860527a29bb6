//! One item in full, with the last reply of the server.

use crate::cli::exit::Exit;
use crate::cli::facts::Facts;
use crate::cli::print::{escaped_json, show};
use crate::cli::sources::Known;
use crate::cli::trouble::Trouble;
use crate::config::SourceName;
use crate::engine::{ItemId, Timestamp, sanitize_line, sanitize_lines};
use crate::human::{format_date_time, format_deadline, pluralize};
use crate::ledger::{FailureRow, ItemStatus, StoredResponse};
use crate::worker::{Env, RealEnv};

/// Shows how the item stands in each source that knows it.
pub(super) fn show_one(sources: &[Known], item: &str, json: bool) -> Result<Exit, Trouble> {
    let id = ItemId::new(item);
    let mut exit = Exit::Other;
    for source in sources {
        let row = match source.ledger()? {
            Some(ledger) => ledger.item_failure(&id)?,
            None => None,
        };
        let Some(row) = row else { continue };
        if json {
            show(escaped_json(&super::line(&source.name, &row)))?;
        } else {
            if exit == Exit::Done {
                show("")?;
            }
            show(facts(&source.name, &row, RealEnv.now()).text())?;
        }
        exit = Exit::Done;
    }
    if exit == Exit::Done {
        return Ok(exit);
    }
    let why = format!(
        "no item {} was ever listed; `cynosure failures` shows what has failed",
        sanitize_line(item)
    );
    Err(Trouble::new(Exit::Other, why))
}

fn facts(source: &SourceName, row: &FailureRow, now: Timestamp) -> Facts {
    let mut facts = Facts::default();
    facts.add("item", format!("{} of {source}", sanitize_line(row.item.as_str())));
    facts.add("state", state(row));
    if let Some(at) = row.failed_at {
        facts.add("failed", format_date_time(at));
    }
    if let Some(at) = row.next_attempt_at.filter(|_| is_open(row.status)) {
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
        Some(replied) => facts.add_all("reply", reply(replied)),
        None if row.cause.is_some() => {
            facts.add("reply", "none was kept: the server did not answer, or it was long ago");
        }
        None => {}
    }
    facts
}

fn is_open(status: ItemStatus) -> bool {
    match status {
        ItemStatus::Pending | ItemStatus::Quarantined => true,
        ItemStatus::Stored | ItemStatus::Gone => false,
    }
}

fn state(row: &FailureRow) -> String {
    let mut state = super::word(row.status).to_owned();
    if row.attempts > 0 {
        state.push_str(&format!(" after {}", pluralize(u64::from(row.attempts), "failed attempt")));
    }
    if row.quarantine_count > 1 {
        state.push_str(&format!(", {} times in a row", row.quarantine_count));
    }
    state
}

/// The reply as it came, as far as it was kept, fit to be printed.
fn reply(replied: &StoredResponse) -> Vec<String> {
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
