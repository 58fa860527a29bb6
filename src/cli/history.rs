//! `history`: the states that sources have passed, with the reasons.

use serde_json::json;

use crate::cli::args::{Common, HistoryArgs};
use crate::cli::exit::Exit;
use crate::cli::print::show;
use crate::cli::sources::{chosen, ground};
use crate::cli::table::table_without;
use crate::cli::trouble::Trouble;
use crate::config::SourceName;
use crate::engine::{SessionId, sanitize_line};
use crate::human::{format_date_time, format_utc};
use crate::ledger::TransitionRow;

const HEAD: [&str; 5] = ["TIME", "SOURCE", "FROM", "TO", "WHY"];

/// Where the name of the source stands, which a single source does without.
const SOURCE_COLUMN: usize = 1;

pub(super) fn history(common: &Common, args: &HistoryArgs) -> Result<Exit, Trouble> {
    let ground = ground(common)?;
    let sources = chosen(&ground, args.source.as_deref())?;
    let last = usize::try_from(args.last).unwrap_or(usize::MAX);

    let mut passed: Vec<(&SourceName, TransitionRow)> = Vec::new();
    for source in &sources {
        if let Some(ledger) = source.ledger()? {
            let newest_first = ledger.transitions(last)?;
            passed.extend(newest_first.into_iter().rev().map(|step| (&source.name, step)));
        }
    }
    // Stable, so that those of one source and one millisecond stay in their order.
    passed.sort_by_key(|(_, step)| step.at);
    passed.drain(..passed.len().saturating_sub(last));

    if args.json {
        for (source, step) in &passed {
            show(line(source, step))?;
        }
    } else if passed.is_empty() {
        show("nothing has happened yet")?;
    } else {
        let rows = rows(&passed);
        let hidden = (sources.len() == 1).then_some(SOURCE_COLUMN);
        show(table_without(hidden, &HEAD, &rows).trim_end())?;
    }
    Ok(Exit::Done)
}

fn line(source: &SourceName, step: &TransitionRow) -> serde_json::Value {
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
fn rows(passed: &[(&SourceName, TransitionRow)]) -> Vec<Vec<String>> {
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
