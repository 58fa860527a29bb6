//! `status`: what each source is doing, why, and what happens next.

use std::io::{self, IsTerminal};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::signal::unix::{SignalKind, signal};

use crate::cli::args::{CommonArgs, StatusArgs};
use crate::cli::breaker::BreakerNotes;
use crate::cli::context::{AppContext, state_file};
use crate::cli::error::CliError;
use crate::cli::exit::ProgramExit;
use crate::cli::print::{print_note, print_result};
use crate::cli::quotas::{self, QuotaRow};
use crate::cli::source_status::{SourceStatus, StateRead, WorkerLiveness, read_status};
use crate::cli::sources::all_sources;
use crate::cli::table::table;
use crate::config::{CredentialRef, Diagnostics};
use crate::engine::{Cause, RestartCause, Status, Timestamp, sanitize_line};
use crate::human::{
    EMPTY_CELL, estimate_remaining, format_clock_time, format_count, format_deadline,
    format_duration, format_rate,
};
use crate::state::ExecutionState;
use crate::worker::{Env, RealEnv};

/// How often it is shown anew: on a terminal, and where every showing is kept.
const REDRAW_INTERVAL: Duration = Duration::from_secs(1);
const REPRINT_INTERVAL: Duration = Duration::from_secs(2);

const HEADER: [&str; 6] = ["SOURCE", "STATE", "DONE", "RATE", "UNTIL", "WHY"];

pub(super) fn status(common: &CommonArgs, args: &StatusArgs) -> Result<ProgramExit, CliError> {
    let ground = load_context_partially(common)?;
    if let Some(mistakes) = &ground.diagnostics {
        print_note(format!(
            "{mistakes}; correct it and try `cynosure config check`. This is what the state files say; \
             a worker that runs goes on with the last good configuration.\n"
        ));
    }
    if args.watch {
        return watch_status(&ground, args);
    }
    if args.json {
        print_result(format!("{:#}", status_json(&ground)?))?;
    } else {
        print_result(status_table(&ground, RealEnv.now())?)?;
    }
    Ok(ProgramExit::Success)
}

/// Finds the states. A broken configuration keeps nobody from looking, unless there is nothing else.
fn load_context_partially(common: &CommonArgs) -> Result<AppContext, CliError> {
    let wrong = |why: String| CliError::new(ProgramExit::Configuration, why);
    let ground = AppContext::load_partially(common).map_err(wrong)?;
    match &ground.diagnostics {
        Some(mistakes)
            if all_sources(&ground)?.iter().all(|source| !state_file(&source.dir).exists()) =>
        {
            Err(wrong(mistakes.to_string()))
        }
        Some(_) | None => Ok(ground),
    }
}

/// Shows it again and again until it is interrupted or nobody reads any more.
fn watch_status(ground: &AppContext, args: &StatusArgs) -> Result<ProgramExit, CliError> {
    let cannot =
        |error: io::Error| CliError::new(ProgramExit::Other, format!("cannot watch: {error}"));
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(cannot)?;
    let redraw = io::stdout().is_terminal() && !args.json;
    runtime.block_on(async {
        // Heard from before the first showing on.
        let mut interrupt = signal(SignalKind::interrupt()).map_err(cannot)?;
        loop {
            if args.json {
                // A line each time, so that a program can tell one from the next.
                print_result(status_json(ground)?)?;
            } else {
                let text = status_table(ground, RealEnv.now())?;
                print_result(if redraw { redraw_text(&text) } else { text })?;
            }
            let interval = if redraw { REDRAW_INTERVAL } else { REPRINT_INTERVAL };
            tokio::select! {
                _ = interrupt.recv() => return Ok(ProgramExit::Interrupted),
                () = tokio::time::sleep(interval) => {}
            }
        }
    })
}

/// Writes from the top of the terminal, clearing line by line, which does not flicker.
fn redraw_text(text: &str) -> String {
    const HOME: &str = "\x1b[H";
    const CLEAR_LINE: &str = "\x1b[K\n";
    const CLEAR_REST: &str = "\x1b[J";
    format!("{HOME}{}{CLEAR_LINE}{CLEAR_REST}", text.replace('\n', CLEAR_LINE))
}

/// One object, whose `sources` are the states, whose `quotas` are what is known of limits, and whose
/// `mistakes` are those of the configuration.
fn status_json(ground: &AppContext) -> Result<Value, CliError> {
    let sources = all_sources(ground)?;
    let states: Vec<Value> = sources.iter().map(|source| read_status(source).to_json()).collect();
    let quotas = quotas::load_quota_rows(ground, RealEnv.now())?;
    let quotas: Vec<Value> = quotas.iter().map(QuotaRow::to_json).collect();
    let mistakes: Vec<String> =
        ground.diagnostics.iter().flat_map(Diagnostics::iter).map(ToString::to_string).collect();
    Ok(json!({ "sources": states, "quotas": quotas, "mistakes": mistakes }))
}

fn status_table(ground: &AppContext, now: Timestamp) -> Result<String, CliError> {
    let sources = all_sources(ground)?;
    if sources.is_empty() {
        return Ok(format!(
            "no sources yet: add a [source.NAME] table to {}",
            ground.config_file.display()
        ));
    }
    let circuits = BreakerNotes::load(ground, now);
    let rows: Vec<Vec<String>> =
        sources.iter().map(|source| row_cells(&read_status(source), &circuits, now)).collect();
    let mut text = table(&HEADER, &rows);
    if let Some(quotas) = quotas::as_table(&quotas::load_quota_rows(ground, now)?) {
        text.push('\n');
        text.push_str(&quotas);
    }
    Ok(text.trim_end().to_owned())
}

/// A source in words, a text for each column.
pub(super) struct StatusRow {
    state: String,
    progress: String,
    rate: String,
    pub(super) until: String,
    pub(super) reason: String,
}

fn row_cells(standing: &SourceStatus<'_>, circuits: &BreakerNotes, now: Timestamp) -> Vec<String> {
    let StatusRow { state, progress: done, rate, until, reason: why } =
        status_row(standing, circuits, now);
    vec![standing.source.name.to_string(), state, done, rate, until, why]
}

pub(super) fn status_row(
    standing: &SourceStatus<'_>,
    circuits: &BreakerNotes,
    now: Timestamp,
) -> StatusRow {
    let nothing = || EMPTY_CELL.to_owned();
    let name = standing.source.name.to_string();
    match &standing.state {
        StateRead::NeverRun => {
            let next = format!("`cynosure run {name}` begins");
            let why = with_config_note(with_breaker_note(next, standing, circuits), standing);
            StatusRow { state: "never run".to_owned(), reason: why, ..StatusRow::empty() }
        }
        StateRead::Unreadable(why) => {
            let why = with_breaker_note(sanitize_line(why), standing, circuits);
            let why = with_config_note(why, standing);
            StatusRow { state: "unknown".to_owned(), reason: why, ..StatusRow::empty() }
        }
        StateRead::State(state, worker) => {
            let word = state.status.name().replace('_', " ");
            let at_rest = *worker == WorkerLiveness::Running || state.status == Status::Completed;
            let word = if at_rest { word } else { format!("{word} (not running)") };
            let why =
                with_breaker_note(reason_text(standing, state, *worker, now), standing, circuits);
            let per_second = state.rate_per_second.filter(|_| {
                state.status == Status::Downloading && *worker == WorkerLiveness::Running
            });
            StatusRow {
                state: word,
                progress: progress_text(state),
                rate: per_second.map_or_else(nothing, format_rate),
                until: until_text(standing, state, *worker, now),
                reason: with_config_note(why, standing),
            }
        }
    }
}

impl StatusRow {
    fn empty() -> Self {
        let [state, done, rate, until, why] = std::array::from_fn(|_| EMPTY_CELL.to_owned());
        Self { state, progress: done, rate, until, reason: why }
    }
}

fn settled_items(state: &ExecutionState) -> u64 {
    state.downloaded_threads + state.gone + state.quarantined
}

fn progress_text(state: &ExecutionState) -> String {
    match state.status {
        // How many there will be is not known before the list is complete.
        Status::Collecting => format!("{} listed", format_count(state.total_threads)),
        Status::Idle
        | Status::Downloading
        | Status::Completed
        | Status::Error
        | Status::RateLimited
        | Status::AuthFailed => {
            format!(
                "{} / {}",
                format_count(settled_items(state)),
                format_count(state.total_threads)
            )
        }
    }
}

fn until_text(
    standing: &SourceStatus<'_>,
    state: &ExecutionState,
    worker: WorkerLiveness,
    now: Timestamp,
) -> String {
    let is_running = worker == WorkerLiveness::Running;
    let left = state.total_threads.saturating_sub(settled_items(state));
    let wait = state.state_until.map(|until| format_deadline(until, now));
    let text = match state.status {
        Status::Downloading if is_running => estimate_remaining(left, state.rate_per_second)
            .map(|left| format!("about {}", format_duration(left))),
        Status::Collecting | Status::Downloading => None,
        Status::Idle if !is_running => None,
        Status::Completed => {
            state.completion_time.map(|at| format!("since {}", format_clock_time(at, now)))
        }
        Status::AuthFailed if !is_running => Some(format!("new {}", standing.credential_noun())),
        Status::AuthFailed => {
            let until = state.state_until.filter(|until| *until > now);
            let clock =
                until.map_or_else(|| "now".to_owned(), |until| format_clock_time(until, now));
            Some(format!("{clock} or new {}", standing.credential_noun()))
        }
        Status::Idle | Status::Error | Status::RateLimited => wait,
    };
    text.unwrap_or_else(|| EMPTY_CELL.to_owned())
}

fn reason_text(
    standing: &SourceStatus<'_>,
    state: &ExecutionState,
    worker: WorkerLiveness,
    now: Timestamp,
) -> String {
    let mut parts = Vec::new();
    match state.status {
        Status::Collecting | Status::Downloading => match worker {
            // Its deadline is when progress is missed.
            WorkerLiveness::Running if state.state_until.is_some_and(|until| until <= now) => {
                parts.push(format!(
                    "no progress since {}",
                    format_clock_time(state.last_progress, now)
                ));
            }
            WorkerLiveness::Running => {}
            WorkerLiveness::Stopped => {
                parts.push("it was stopped; the next run goes on from here".to_owned())
            }
            WorkerLiveness::Crashed { pid } => parts.push(format!(
                "its worker (process {pid}) is gone; the next run goes on from here"
            )),
        },
        Status::Completed => {}
        Status::Idle => match worker {
            WorkerLiveness::Running if state.state_until.is_some_and(|until| until <= now) => {
                parts.push("looking for something new".to_owned());
            }
            WorkerLiveness::Running => {}
            WorkerLiveness::Stopped | WorkerLiveness::Crashed { .. } => {
                parts.push("the next run looks for something new".to_owned());
            }
        },
        Status::Error | Status::RateLimited => parts.push(sanitize_line(&state.reason)),
        Status::AuthFailed => {
            parts.push(sanitize_line(&state.reason));
            let cause = state.last_error.as_ref().map(|error| error.cause.as_str());
            // That sentence has its own remedy.
            if cause != Some(Cause::AccountChanged.name()) {
                parts.extend(credential_hint(standing));
            }
        }
    }
    parts.extend(restart_note(state, now));
    if state.waiting_for_retry > 0 {
        parts.push(format!("{} waiting for a retry", format_count(state.waiting_for_retry)));
    }
    if state.quarantined > 0 {
        parts.push(format!("{} quarantined", format_count(state.quarantined)));
    }
    if parts.is_empty() { EMPTY_CELL.to_owned() } else { parts.join("; ") }
}

/// That it was started anew, as long as nothing has moved since.
fn restart_note(state: &ExecutionState, now: Timestamp) -> Option<String> {
    let restart =
        state.last_restart.as_ref().filter(|restart| restart.at >= state.last_progress)?;
    let why = match RestartCause::from_name(&restart.cause)? {
        RestartCause::Completed => return None,
        RestartCause::Errors => "after too many errors",
        RestartCause::Authentication => "to read the credential again",
        RestartCause::Stuck => "since nothing moved",
        RestartCause::ExecutionTime => "after the longest execution time",
    };
    Some(format!("started anew at {} {why}", format_clock_time(restart.at, now)))
}

/// Where a fresh credential is to be put.
fn credential_hint(standing: &SourceStatus<'_>) -> Option<String> {
    let what = standing.credential_noun();
    let place = standing.source.settings.as_ref()?.auth.credential_ref();
    Some(match place {
        CredentialRef::File(path) => format!("put a fresh {what} into {}", path.display()),
        CredentialRef::Env(name) => format!("start it anew with a fresh {what} in {name}"),
        CredentialRef::Command(_) | CredentialRef::Systemd(_) => {
            format!("have the {place} give a fresh {what}")
        }
    })
}

/// Adds that a breaker is open, unless that is told as the reason anyhow.
fn with_breaker_note(why: String, standing: &SourceStatus<'_>, circuits: &BreakerNotes) -> String {
    let settings = standing.source.settings.as_ref();
    let (provider, is_told) = match &standing.state {
        StateRead::State(state, _) => {
            let is_told = state.status == Status::Error && why.contains("the circuit of");
            (Some(state.provider.as_str()), is_told)
        }
        StateRead::NeverRun | StateRead::Unreadable(_) => {
            (settings.map(|settings| settings.provider.as_str()), false)
        }
    };
    match provider.and_then(|provider| circuits.for_provider(provider)).filter(|_| !is_told) {
        Some(remark) if why == EMPTY_CELL => remark,
        Some(remark) => format!("{why}; {remark}"),
        None => why,
    }
}

/// Adds what the configuration says of the source, where that is not as usual.
fn with_config_note(why: String, standing: &SourceStatus<'_>) -> String {
    let name = &standing.source.name;
    let remark = match &standing.source.settings {
        None if standing.source.is_config_uncertain => {
            "its configuration cannot be read".to_owned()
        }
        None => format!("not in the configuration; `cynosure reset {name}` forgets it"),
        Some(source) if !source.is_enabled => "disabled in the configuration".to_owned(),
        Some(_) => return why,
    };
    if why == EMPTY_CELL { remark } else { format!("{why}; {remark}") }
}
