//! `status`: prints the state of each source, the reason, and the next step.

use std::io::{self, IsTerminal};
use std::time::Duration;

use cynosure_engine::Timestamp;
use serde::Serialize;
use serde_json::Value;
use tokio::signal::unix::{SignalKind, signal};

use crate::app::breaker_notes::BreakerNotes;
use crate::app::context::AppContext;
use crate::app::error::ProgramError;
use crate::app::exit::ProgramExit;
use crate::app::quotas::{QuotaJson, QuotaRow, load_quota_rows};
use crate::app::source_status::{SourceStatus, SourceStatusJson};
use crate::app::sources::all_sources;
use crate::app::status_row::{StatusRow, status_row};
use crate::cli::args::{CommonArgs, StatusArgs};
use crate::cli::print::{print_note, print_result, sorted_json};
use crate::cli::table::table;
use crate::config::Diagnostics;
use crate::env::{Env, RealEnv};

/// Interval of `--watch` on a terminal, which is redrawn.
const REDRAW_INTERVAL: Duration = Duration::from_secs(1);

/// Interval of `--watch` elsewhere, where all output is kept.
const REPRINT_INTERVAL: Duration = Duration::from_secs(2);

const HEADER: [&str; 8] =
    ["SOURCE", "STATE", "DONE", "RATE", "UNTIL", "ARCHIVE", "COMPLETE UNTIL", "REASON"];

const QUOTA_HEADER: [&str; 5] = ["SCOPE", "RATE", "RATE SOURCE", "REQUESTS LEFT", "STATUS"];

/// Output of `status --json`.
#[derive(Serialize)]
struct StatusJson<'a> {
    sources: Vec<SourceStatusJson>,
    quotas: Vec<QuotaJson<'a>>,
    /// Errors of the configuration.
    #[serde(rename = "mistakes")]
    diagnostics: Vec<String>,
}

pub(super) fn status(common: &CommonArgs, args: &StatusArgs) -> Result<ProgramExit, ProgramError> {
    let context = load_context_partially(common)?;
    if let Some(diagnostics) = &context.diagnostics {
        print_note(format!(
            "{diagnostics}; correct it (`cynosure config check` lists every mistake). The output is \
             read from the state files; a running worker keeps the last valid configuration.\n"
        ));
    }
    if args.watch {
        return watch_status(&context, args);
    }
    if args.json {
        print_result(format!("{:#}", status_json(&context)?))?;
    } else {
        print_result(status_table(&context, RealEnv.now())?)?;
    }
    Ok(ProgramExit::Success)
}

/// Loads the configuration. An invalid one is an error only if no source has a state file.
fn load_context_partially(common: &CommonArgs) -> Result<AppContext, ProgramError> {
    let context = AppContext::load_partially(&common.config_location())?;
    match &context.diagnostics {
        Some(diagnostics)
            if all_sources(&context)?.iter().all(|source| !source.folder.state_file().exists()) =>
        {
            Err(ProgramError::new(ProgramExit::Configuration, diagnostics.to_string()))
        }
        Some(_) | None => Ok(context),
    }
}

/// Prints the status repeatedly, until SIGINT or until standard output is closed.
fn watch_status(context: &AppContext, args: &StatusArgs) -> Result<ProgramExit, ProgramError> {
    let watch_error =
        |error: io::Error| ProgramError::new(ProgramExit::Other, format!("cannot watch: {error}"));
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(watch_error)?;
    let is_redrawn = io::stdout().is_terminal() && !args.json;
    runtime.block_on(async {
        // Installed before the first output, so that no SIGINT is missed.
        let mut interrupt = signal(SignalKind::interrupt()).map_err(watch_error)?;
        loop {
            if args.json {
                // One line per status, so that programs can separate them.
                print_result(status_json(context)?)?;
            } else {
                let text = status_table(context, RealEnv.now())?;
                print_result(if is_redrawn { redraw_text(&text) } else { text })?;
            }
            let interval = if is_redrawn { REDRAW_INTERVAL } else { REPRINT_INTERVAL };
            tokio::select! {
                _ = interrupt.recv() => return Ok(ProgramExit::Interrupted),
                () = tokio::time::sleep(interval) => {}
            }
        }
    })
}

/// Returns text that overwrites the screen from the top. Clearing line by line does not flicker.
fn redraw_text(text: &str) -> String {
    const HOME: &str = "\x1b[H";
    const CLEAR_LINE: &str = "\x1b[K\n";
    const CLEAR_REST: &str = "\x1b[J";
    format!("{HOME}{}{CLEAR_LINE}{CLEAR_REST}", text.replace('\n', CLEAR_LINE))
}

fn status_json(context: &AppContext) -> Result<Value, ProgramError> {
    let sources = all_sources(context)?;
    let quotas = load_quota_rows(context, RealEnv.now())?;
    let diagnostics = context.diagnostics.iter().flat_map(Diagnostics::iter);
    Ok(sorted_json(&StatusJson {
        sources: sources.iter().map(|source| SourceStatus::read(source).to_json()).collect(),
        quotas: quotas.iter().map(QuotaRow::to_json).collect(),
        diagnostics: diagnostics.map(ToString::to_string).collect(),
    }))
}

fn status_table(context: &AppContext, now: Timestamp) -> Result<String, ProgramError> {
    let sources = all_sources(context)?;
    if sources.is_empty() {
        return Ok(format!(
            "no sources yet: add a [source.NAME] table to {}",
            context.config_file.display()
        ));
    }
    let breaker_notes = BreakerNotes::load(context, now);
    let rows: Vec<Vec<String>> = sources
        .iter()
        .map(|source| source_cells(&SourceStatus::read(source), &breaker_notes, now))
        .collect();
    let mut text = table(&HEADER, &rows);
    let quotas = load_quota_rows(context, now)?;
    if !quotas.is_empty() {
        let rows: Vec<Vec<String>> = quotas.iter().map(QuotaRow::cells).collect();
        text.push('\n');
        text.push_str(&table(&QUOTA_HEADER, &rows));
    }
    Ok(text.trim_end().to_owned())
}

fn source_cells(
    source_status: &SourceStatus<'_>,
    breaker_notes: &BreakerNotes,
    now: Timestamp,
) -> Vec<String> {
    let StatusRow { state, progress, rate, until, archive, complete_until, reason } =
        status_row(source_status, breaker_notes, now);
    let name = source_status.source.name.to_string();
    vec![name, state, progress, rate, until, archive, complete_until, reason]
}
