//! `history`: shows the state transitions of sources, with the reasons.

use cynosure_engine::{SessionId, Timestamp, sanitize_line};
use serde::Serialize;

use crate::app::context::AppContext;
use crate::app::error::ProgramError;
use crate::app::exit::ProgramExit;
use crate::app::sources::select_sources;
use crate::cli::args::{CommonArgs, HistoryArgs};
use crate::cli::print::{print_result, sorted_json};
use crate::cli::table::table_without_column;
use crate::config::SourceName;
use crate::human::{format_date_time, humanize};
use crate::ledger::TransitionRow;

const HEADER: [&str; 5] = ["TIME", "SOURCE", "FROM", "TO", "REASON"];

/// Index of the column with the source, which is hidden for a single source.
const SOURCE_COLUMN: usize = 1;

/// State transition in the output of `history --json`.
#[derive(Serialize)]
struct TransitionJson<'a> {
    source: &'a str,
    at: Timestamp,
    /// Name of the state, as in the state file; `to` likewise.
    from: &'a str,
    to: &'a str,
    reason: &'a str,
    session: Option<&'a str>,
}

pub(super) fn history(
    common: &CommonArgs,
    args: &HistoryArgs,
) -> Result<ProgramExit, ProgramError> {
    let context = AppContext::load(&common.config_location())?;
    let sources = select_sources(&context, args.source.as_deref())?;
    let last = usize::try_from(args.last).unwrap_or(usize::MAX);

    let mut transitions: Vec<(&SourceName, TransitionRow)> = Vec::new();
    for source in &sources {
        if let Some(ledger) = source.open_ledger()? {
            let newest_first = ledger.transitions(last)?;
            let oldest_first = newest_first.into_iter().rev();
            transitions.extend(oldest_first.map(|transition| (&source.name, transition)));
        }
    }
    // A stable sort keeps the order of one source within a millisecond.
    transitions.sort_by_key(|(_, transition)| transition.at);
    transitions.drain(..transitions.len().saturating_sub(last));

    if args.json {
        for (source, transition) in &transitions {
            print_result(sorted_json(&transition_json(source, transition)))?;
        }
    } else if transitions.is_empty() {
        print_result("no state changes yet")?;
    } else {
        let rows = history_rows(&transitions);
        let hidden = (sources.len() == 1).then_some(SOURCE_COLUMN);
        print_result(table_without_column(hidden, &HEADER, &rows).trim_end())?;
    }
    Ok(ProgramExit::Success)
}

fn transition_json<'a>(
    source: &'a SourceName,
    transition: &'a TransitionRow,
) -> TransitionJson<'a> {
    TransitionJson {
        source: source.as_str(),
        at: transition.at,
        from: &transition.from,
        to: &transition.to,
        reason: &transition.reason,
        session: transition.session.as_ref().map(SessionId::as_str),
    }
}

/// Returns one row per transition. The reason names the session if it differs from the last one.
fn history_rows(transitions: &[(&SourceName, TransitionRow)]) -> Vec<Vec<String>> {
    let mut last_sessions = std::collections::BTreeMap::new();
    let mut rows = Vec::with_capacity(transitions.len());
    for (source, transition) in transitions {
        let mut reason = sanitize_line(&transition.reason);
        if let Some(session) = &transition.session
            && last_sessions.insert(*source, session) != Some(session)
        {
            reason = format!("{reason} ({session})");
        }
        let label = |state: &str| sanitize_line(&humanize(state));
        rows.push(vec![
            format_date_time(transition.at),
            source.to_string(),
            label(&transition.from),
            label(&transition.to),
            reason,
        ]);
    }
    rows
}
