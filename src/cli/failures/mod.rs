//! `failures`: the items that are not stored, or not whole, and what becomes of them.

mod detail;

use serde_json::json;

use crate::cli::args::{CommonArgs, FailuresArgs};
use crate::cli::error::CliError;
use crate::cli::exit::ProgramExit;
use crate::cli::print::{print_result, terminal_safe_json};
use crate::cli::sources::{SourceRef, load_context, select_sources};
use crate::cli::table::table_without_column;
use crate::cli::time_arg;
use crate::config::SourceName;
use crate::engine::{Cause, Timestamp, sanitize_line};
use crate::human::{EMPTY_CELL, format_count, format_deadline, format_utc};
use crate::ledger::{FailureFilter, FailureRow, ItemStatus, StoredResponse};
use crate::worker::{Env, RealEnv};

const HEADER: [&str; 7] = ["SOURCE", "ITEM", "STATE", "ATTEMPTS", "NEXT", "CAUSE", "WHY"];

/// Where the name of the source stands, which a single source does without.
const SOURCE_COLUMN: usize = 0;

pub(super) fn failures(common: &CommonArgs, args: &FailuresArgs) -> Result<ProgramExit, CliError> {
    let ground = load_context(common)?;
    let sources = select_sources(&ground, args.source.as_deref())?;
    if let Some(item) = &args.item {
        return detail::print_item(&sources, item, args.json);
    }
    let now = RealEnv.now();
    let since =
        args.since.as_deref().map(|since| time_arg::parse_time_arg(since, now)).transpose()?;
    let filter = FailureFilter { cause: args.cause, since };
    let limit = usize::try_from(args.limit).unwrap_or(usize::MAX);

    let mut found: Vec<(&SourceName, FailureRow)> = Vec::new();
    for source in &sources {
        if let Some(ledger) = source.open_ledger()? {
            // One more than is shown, to know whether there are more.
            let room = limit.saturating_add(1) - found.len();
            let rows = ledger.failures(filter, room)?;
            found.extend(rows.into_iter().map(|row| (&source.name, row)));
        }
    }
    let has_more = found.len() > limit;
    found.truncate(limit);

    if args.json {
        for (source, row) in &found {
            print_result(terminal_safe_json(&failure_json(source, row)))?;
        }
    } else if found.is_empty() && !has_more {
        print_result(match (args.cause, &args.since) {
            (Some(cause), None) => format!("nothing has failed for the cause {cause}"),
            (Some(cause), Some(_)) => {
                format!("nothing has failed for the cause {cause} since then")
            }
            (None, Some(_)) => "nothing has failed since then".to_owned(),
            (None, None) => {
                "nothing has failed: every item is stored, or waits for its first try".to_owned()
            }
        })?;
    } else {
        let rows: Vec<_> =
            found.iter().map(|(source, row)| failure_cells(source, row, now)).collect();
        let hidden = (sources.len() == 1).then_some(SOURCE_COLUMN);
        print_result(table_without_column(hidden, &HEADER, &rows))?;
        print_result(summary_text(&found, &sources))?;
        if has_more {
            print_result(format!(
                "There are more: -n {} shows them.",
                args.limit.saturating_mul(10)
            ))?;
        }
    }
    Ok(ProgramExit::Success)
}

pub(super) fn reply_json(replied: &StoredResponse) -> serde_json::Value {
    let reply = &replied.response;
    json!({
        "at": format_utc(replied.at),
        "status": reply.status,
        "headers": reply.headers,
        "body": reply.body,
        "body_is_cut": reply.is_truncated,
    })
}

fn failure_json(source: &SourceName, row: &FailureRow) -> serde_json::Value {
    json!({
        "source": source.as_str(),
        "item": row.item.as_str(),
        "state": status_name(row.status),
        "attempts": row.attempts,
        "next_at": row.next_attempt_at.map(format_utc),
        "cause": row.cause.map(Cause::name),
        "message": row.message,
        "failed_at": row.failed_at.map(format_utc),
        "quarantined_in_a_row": row.quarantine_count,
        "reply": row.last_response.as_ref().map(reply_json),
    })
}

fn failure_cells(source: &SourceName, row: &FailureRow, now: Timestamp) -> Vec<String> {
    let next = match row.next_attempt_at {
        None => EMPTY_CELL.to_owned(),
        Some(at) if at <= now && row.status == ItemStatus::Quarantined => "next look".to_owned(),
        Some(at) => format_deadline(at, now),
    };
    vec![
        source.to_string(),
        sanitize_line(row.item.as_str()),
        status_name(row.status).to_owned(),
        row.attempts.to_string(),
        next,
        row.cause.map_or(EMPTY_CELL, Cause::name).to_owned(),
        sanitize_line(&row.message),
    ]
}

pub(super) fn status_name(status: ItemStatus) -> &'static str {
    match status {
        ItemStatus::Pending => "waiting",
        ItemStatus::Stored => "stored",
        ItemStatus::Gone => "gone",
        ItemStatus::Quarantined => "quarantined",
    }
}

/// How many stand where, and what a person can do about it.
fn summary_text(found: &[(&SourceName, FailureRow)], sources: &[SourceRef]) -> String {
    let number = |status| found.iter().filter(|(_, row)| row.status == status).count() as u64;
    let quarantined = number(ItemStatus::Quarantined);
    let told = [
        (quarantined, "quarantined"),
        (number(ItemStatus::Pending), "waiting for a retry"),
        (number(ItemStatus::Gone), "gone from the source"),
    ];
    let told = told.into_iter().filter(|(number, _)| *number > 0);
    let told: Vec<String> =
        told.map(|(number, what)| format!("{} {what}", format_count(number))).collect();
    let mut summary = format!("{}.", told.join(", "));
    if quarantined > 0 {
        let name = match sources {
            [source] => source.name.as_str(),
            _ => "NAME",
        };
        summary.push_str(&format!(
            " `cynosure requeue --source {name}` has what is quarantined fetched again."
        ));
    }
    summary
}
