//! `failures`: items that failed, with their state, the next attempt and the cause.

mod detail;

use std::collections::BTreeMap;

use cynosure_engine::{Cause, Timestamp, format_count, sanitize_line};
use serde::Serialize;

use crate::app::context::AppContext;
use crate::app::error::ProgramError;
use crate::app::exit::ProgramExit;
use crate::app::sources::{SourceRef, select_sources};
use crate::cli::args::{CommonArgs, FailuresArgs};
use crate::cli::print::{print_result, terminal_safe_json};
use crate::cli::table::table_without_column;
use crate::cli::time_arg;
use crate::config::SourceName;
use crate::env::{Env, RealEnv};
use crate::human::{EMPTY_CELL, format_deadline};
use crate::ledger::{FailureFilter, FailureRow, ItemStatus, LabeledDocument, StoredResponse};

const HEADER: [&str; 7] =
    ["SOURCE", "ITEM", "STATE", "ATTEMPTS", "NEXT ATTEMPT", "CAUSE", "MESSAGE"];

/// Column with the name of the source, which is hidden if there is only one source.
const SOURCE_COLUMN: usize = 0;

/// Failed item in the output of `failures --json`.
#[derive(Serialize)]
struct FailureJson<'a> {
    source: &'a str,
    item: &'a str,
    #[serde(rename = "state")]
    status: &'static str,
    /// Attempts that failed.
    attempts: u32,
    /// Null if the item is gone.
    #[serde(rename = "next_at")]
    next_attempt_at: Option<Timestamp>,
    cause: Option<&'static str>,
    message: &'a str,
    /// Time of the last failure, if recorded.
    failed_at: Option<Timestamp>,
    #[serde(rename = "quarantined_in_a_row")]
    quarantine_count: u32,
    #[serde(rename = "reply")]
    last_response: Option<ResponseJson<'a>>,
    /// Documents of the item with labels; only of one item, and left out if there are none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    documents: Vec<LabelsJson<'a>>,
}

/// Labels of a document, by name. Untrusted text.
#[derive(Serialize)]
struct LabelsJson<'a> {
    id: &'a str,
    labels: BTreeMap<&'a str, &'a str>,
}

/// Failure response of the server. Its text is untrusted.
#[derive(Serialize)]
struct ResponseJson<'a> {
    at: Timestamp,
    status: u16,
    /// Name and value of each, in the order of the response.
    headers: &'a [(String, String)],
    body: &'a str,
    /// True if only the beginning of the body was stored.
    #[serde(rename = "body_is_cut")]
    is_truncated: bool,
}

pub(super) fn failures(
    common: &CommonArgs,
    args: &FailuresArgs,
) -> Result<ProgramExit, ProgramError> {
    let context = AppContext::load(&common.config_location())?;
    let sources = select_sources(&context, args.source.as_deref())?;
    if let Some(item) = &args.item {
        return detail::print_item(&sources, item, args.json);
    }
    let now = RealEnv.now();
    let since =
        args.since.as_deref().map(|since| time_arg::parse_time_arg(since, now)).transpose()?;
    let filter = FailureFilter { cause: args.cause, since };
    let limit = usize::try_from(args.limit).unwrap_or(usize::MAX);

    let mut failures: Vec<(&SourceName, FailureRow)> = Vec::new();
    for source in &sources {
        if let Some(ledger) = source.open_ledger()? {
            // One more than is shown, to detect that there are more.
            let remaining = limit.saturating_add(1) - failures.len();
            let rows = ledger.failures(filter, remaining)?;
            failures.extend(rows.into_iter().map(|row| (&source.name, row)));
        }
    }
    let has_more = failures.len() > limit;
    failures.truncate(limit);

    if args.json {
        for (source, row) in &failures {
            print_result(terminal_safe_json(&failure_json(source, row, &[])))?;
        }
    } else if failures.is_empty() && !has_more {
        print_result(match (args.cause, &args.since) {
            (Some(cause), None) => format!("no failed items with the cause {cause}"),
            (Some(cause), Some(_)) => {
                format!("no failed items with the cause {cause} since then")
            }
            (None, Some(_)) => "no failed items since then".to_owned(),
            (None, None) => {
                "no failed items: every item is stored or waits for its first attempt".to_owned()
            }
        })?;
    } else {
        let rows: Vec<_> =
            failures.iter().map(|(source, row)| failure_cells(source, row, now)).collect();
        let hidden = (sources.len() == 1).then_some(SOURCE_COLUMN);
        print_result(table_without_column(hidden, &HEADER, &rows))?;
        print_result(summary_text(&failures, &sources))?;
        if has_more {
            print_result(format!(
                "There are more: -n {} shows them.",
                args.limit.saturating_mul(10)
            ))?;
        }
    }
    Ok(ProgramExit::Success)
}

fn failure_json<'a>(
    source: &'a SourceName,
    row: &'a FailureRow,
    labeled: &'a [LabeledDocument],
) -> FailureJson<'a> {
    FailureJson {
        source: source.as_str(),
        item: row.item.as_str(),
        status: row.status.name(),
        attempts: row.attempts,
        next_attempt_at: row.next_attempt_at,
        cause: row.cause.map(Cause::name),
        message: &row.message,
        failed_at: row.failed_at,
        quarantine_count: row.quarantine_count,
        last_response: row.last_response.as_ref().map(response_json),
        documents: labeled.iter().map(labels_json).collect(),
    }
}

fn labels_json(labeled: &LabeledDocument) -> LabelsJson<'_> {
    let labels = labeled.labels.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    LabelsJson { id: labeled.document.as_str(), labels: labels.collect() }
}

fn response_json(stored: &StoredResponse) -> ResponseJson<'_> {
    let response = &stored.response;
    ResponseJson {
        at: stored.at,
        status: response.status,
        headers: &response.headers,
        body: &response.body,
        is_truncated: response.is_truncated,
    }
}

fn failure_cells(source: &SourceName, row: &FailureRow, now: Timestamp) -> Vec<String> {
    let next = match row.next_attempt_at {
        None => EMPTY_CELL.to_owned(),
        Some(at) if at <= now && row.status == ItemStatus::Quarantined => "next poll".to_owned(),
        Some(at) => format_deadline(at, now),
    };
    vec![
        source.to_string(),
        sanitize_line(row.item.as_str()),
        row.status.name().to_owned(),
        row.attempts.to_string(),
        next,
        row.cause.map_or(EMPTY_CELL, Cause::name).to_owned(),
        sanitize_line(&row.message),
    ]
}

/// Returns the number of items in each state, and the command that requeues quarantined ones.
fn summary_text(failures: &[(&SourceName, FailureRow)], sources: &[SourceRef]) -> String {
    let count = |status| failures.iter().filter(|(_, row)| row.status == status).count() as u64;
    let quarantined = count(ItemStatus::Quarantined);
    let counts = [
        (quarantined, "quarantined"),
        (count(ItemStatus::Pending), "waiting for a retry"),
        (count(ItemStatus::Gone), "gone from the source"),
    ];
    let counts = counts.into_iter().filter(|(count, _)| *count > 0);
    let counts: Vec<String> =
        counts.map(|(count, label)| format!("{} {label}", format_count(count))).collect();
    let mut summary = format!("{}.", counts.join(", "));
    if quarantined > 0 {
        let name = match sources {
            [source] => source.name.as_str(),
            _ => "NAME",
        };
        summary.push_str(&format!(
            " `cynosure requeue --source {name}` fetches the quarantined items again."
        ));
    }
    summary
}
