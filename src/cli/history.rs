//! `history`: the states that sources have passed, with the reasons.

use serde_json::json;

use crate::cli::args::{CommonArgs, HistoryArgs};
use crate::cli::error::CliError;
use crate::cli::exit::ProgramExit;
use crate::cli::print::print_result;
use crate::cli::sources::{load_context, select_sources};
use crate::cli::table::table_without_column;
use crate::config::SourceName;
use crate::engine::{SessionId, sanitize_line};
use crate::human::{format_date_time, format_utc};
use crate::ledger::TransitionRow;

const HEADER: [&str; 5] = ["TIME", "SOURCE", "FROM", "TO", "WHY"];

/// Where the name of the source stands, which a single source does without.
const SOURCE_COLUMN: usize = 1;

pub(super) fn history(common: &CommonArgs, args: &HistoryArgs) -> Result<ProgramExit, CliError> {
    let ground = load_context(common)?;
    let sources = select_sources(&ground, args.source.as_deref())?;
    let last = usize::try_from(args.last).unwrap_or(usize::MAX);

    let mut passed: Vec<(&SourceName, TransitionRow)> = Vec::new();
    for source in &sources {
        if let Some(ledger) = source.open_ledger()? {
            let newest_first = ledger.transitions(last)?;
            passed.extend(newest_first.into_iter().rev().map(|step| (&source.name, step)));
        }
    }
    // Stable, so that those of one source and one millisecond stay in their order.
    passed.sort_by_key(|(_, step)| step.at);
    passed.drain(..passed.len().saturating_sub(last));

    if args.json {
        for (source, step) in &passed {
            print_result(history_json(source, step))?;
        }
    } else if passed.is_empty() {
        print_result("nothing has happened yet")?;
    } else {
        let rows = history_rows(&passed);
        let hidden = (sources.len() == 1).then_some(SOURCE_COLUMN);
        print_result(table_without_column(hidden, &HEADER, &rows).trim_end())?;
    }
    Ok(ProgramExit::Success)
}

fn history_json(source: &SourceName, step: &TransitionRow) -> serde_json::Value {
    json!({
        "source": source.as_str(),
        "at": format_utc(step.at),
        "from": step.from,
        "to": step.to,
        "reason": step.reason,
        "session": step.session.as_ref().map(SessionId::as_str),
    })
}

/// A row each; a session is named where it first appears.
fn history_rows(passed: &[(&SourceName, TransitionRow)]) -> Vec<Vec<String>> {
    let mut named = std::collections::BTreeMap::new();
    let mut rows = Vec::with_capacity(passed.len());
    for (source, step) in passed {
        let mut why = sanitize_line(&step.reason);
        if let Some(session) = &step.session
            && named.insert(*source, session) != Some(session)
        {
            why = format!("{why} ({session})");
        }
        let word = |state: &str| sanitize_line(&state.replace('_', " "));
        rows.push(vec![
            format_date_time(step.at),
            source.to_string(),
            word(&step.from),
            word(&step.to),
            why,
        ]);
    }
    rows
}
