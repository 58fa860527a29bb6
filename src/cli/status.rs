//! `status`: what each source is doing, why, and what happens next.

use std::io::{self, IsTerminal};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::signal::unix::{SignalKind, signal};

use crate::cli::args::{Common, StatusArgs};
use crate::cli::breaker::Remarks;
use crate::cli::exit::Exit;
use crate::cli::place::{Ground, state_file};
use crate::cli::print::{note, show};
use crate::cli::quotas::{self, Known};
use crate::cli::sources::all;
use crate::cli::standing::{Seen, Standing, Worker, look};
use crate::cli::table::table;
use crate::cli::trouble::Trouble;
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

const HEAD: [&str; 6] = ["SOURCE", "STATE", "DONE", "RATE", "UNTIL", "WHY"];

pub(super) fn status(common: &Common, args: &StatusArgs) -> Result<Exit, Trouble> {
    let ground = ground_partly(common)?;
    if let Some(mistakes) = &ground.mistakes {
        note(format!(
            "{mistakes}; correct it and try `cynosure config check`. This is what the state files say; \
             a worker that runs goes on with the last good configuration.\n"
        ));
    }
    if args.watch {
        return watch(&ground, args);
    }
    if args.json {
        show(format!("{:#}", as_json(&ground)?))?;
    } else {
        show(as_table(&ground, RealEnv.now())?)?;
    }
    Ok(Exit::Done)
}

/// Finds the states. A broken configuration keeps nobody from looking, unless there is nothing else.
fn ground_partly(common: &Common) -> Result<Ground, Trouble> {
    let wrong = |why: String| Trouble::new(Exit::Configuration, why);
    let ground = Ground::find_partly(common).map_err(wrong)?;
    match &ground.mistakes {
        Some(mistakes) if all(&ground)?.iter().all(|source| !state_file(&source.dir).exists()) => {
            Err(wrong(mistakes.to_string()))
        }
        Some(_) | None => Ok(ground),
    }
}

/// Shows it again and again until it is interrupted or nobody reads any more.
fn watch(ground: &Ground, args: &StatusArgs) -> Result<Exit, Trouble> {
    let cannot = |error: io::Error| Trouble::new(Exit::Other, format!("cannot watch: {error}"));
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(cannot)?;
    let redraw = io::stdout().is_terminal() && !args.json;
    runtime.block_on(async {
        // Heard from before the first showing on.
        let mut interrupt = signal(SignalKind::interrupt()).map_err(cannot)?;
        loop {
            if args.json {
                // A line each time, so that a program can tell one from the next.
                show(as_json(ground)?)?;
            } else {
                let text = as_table(ground, RealEnv.now())?;
                show(if redraw { over_the_last(&text) } else { text })?;
            }
            let interval = if redraw { REDRAW_INTERVAL } else { REPRINT_INTERVAL };
            tokio::select! {
                _ = interrupt.recv() => return Ok(Exit::Interrupted),
                () = tokio::time::sleep(interval) => {}
            }
        }
    })
}

/// Writes from the top of the terminal, clearing line by line, which does not flicker.
fn over_the_last(text: &str) -> String {
    const HOME: &str = "\x1b[H";
    const CLEAR_LINE: &str = "\x1b[K\n";
    const CLEAR_REST: &str = "\x1b[J";
    format!("{HOME}{}{CLEAR_LINE}{CLEAR_REST}", text.replace('\n', CLEAR_LINE))
}

/// One object, whose `sources` are the states, whose `quotas` are what is known of limits, and whose
/// `mistakes` are those of the configuration.
fn as_json(ground: &Ground) -> Result<Value, Trouble> {
    let sources = all(ground)?;
    let states: Vec<Value> = sources.iter().map(|source| look(source).to_json()).collect();
    let quotas = quotas::quotas(ground, RealEnv.now())?;
    let quotas: Vec<Value> = quotas.iter().map(Known::to_json).collect();
    let mistakes: Vec<String> =
        ground.mistakes.iter().flat_map(Diagnostics::iter).map(ToString::to_string).collect();
    Ok(json!({ "sources": states, "quotas": quotas, "mistakes": mistakes }))
}

fn as_table(ground: &Ground, now: Timestamp) -> Result<String, Trouble> {
    let sources = all(ground)?;
    if sources.is_empty() {
        return Ok(format!(
            "no sources yet: add a [source.NAME] table to {}",
            ground.config_file.display()
        ));
    }
    let circuits = Remarks::look(ground, now);
    let rows: Vec<Vec<String>> =
        sources.iter().map(|source| row(&look(source), &circuits, now)).collect();
    let mut text = table(&HEAD, &rows);
    if let Some(quotas) = quotas::as_table(&quotas::quotas(ground, now)?) {
        text.push('\n');
        text.push_str(&quotas);
    }
    Ok(text.trim_end().to_owned())
}

/// A source in words, a text for each column.
pub(super) struct Told {
    state: String,
    done: String,
    rate: String,
    pub(super) until: String,
    pub(super) why: String,
}

fn row(standing: &Standing<'_>, circuits: &Remarks, now: Timestamp) -> Vec<String> {
    let Told { state, done, rate, until, why } = told(standing, circuits, now);
    vec![standing.source.name.to_string(), state, done, rate, until, why]
}

pub(super) fn told(standing: &Standing<'_>, circuits: &Remarks, now: Timestamp) -> Told {
    let nothing = || EMPTY_CELL.to_owned();
    let name = standing.source.name.to_string();
    match &standing.seen {
        Seen::NeverRun => {
            let next = format!("`cynosure run {name}` begins");
            let why = with_remarks(with_circuits(next, standing, circuits), standing);
            Told { state: "never run".to_owned(), why, ..Told::nothing() }
        }
        Seen::Untold(why) => {
            let why = with_circuits(sanitize_line(why), standing, circuits);
            let why = with_remarks(why, standing);
            Told { state: "unknown".to_owned(), why, ..Told::nothing() }
        }
        Seen::State(state, worker) => {
            let word = state.status.name().replace('_', " ");
            let at_rest = *worker == Worker::Running || state.status == Status::Completed;
            let word = if at_rest { word } else { format!("{word} (not running)") };
            let why = with_circuits(why(standing, state, *worker, now), standing, circuits);
            let per_second = state
                .rate_per_second
                .filter(|_| state.status == Status::Downloading && *worker == Worker::Running);
            Told {
                state: word,
                done: done(state),
                rate: per_second.map_or_else(nothing, format_rate),
                until: until(standing, state, *worker, now),
                why: with_remarks(why, standing),
            }
        }
    }
}

impl Told {
    fn nothing() -> Self {
        let [state, done, rate, until, why] = std::array::from_fn(|_| EMPTY_CELL.to_owned());
        Self { state, done, rate, until, why }
    }
}

fn settled(state: &ExecutionState) -> u64 {
    state.downloaded_threads + state.gone + state.quarantined
}

fn done(state: &ExecutionState) -> String {
    match state.status {
        // How many there will be is not known before the list is complete.
        Status::Collecting => format!("{} listed", format_count(state.total_threads)),
        Status::Idle
        | Status::Downloading
        | Status::Completed
        | Status::Error
        | Status::RateLimited
        | Status::AuthFailed => {
            format!("{} / {}", format_count(settled(state)), format_count(state.total_threads))
        }
    }
}

fn until(
    standing: &Standing<'_>,
    state: &ExecutionState,
    worker: Worker,
    now: Timestamp,
) -> String {
    let is_running = worker == Worker::Running;
    let left = state.total_threads.saturating_sub(settled(state));
    let wait = state.state_until.map(|until| format_deadline(until, now));
    let text = match state.status {
        Status::Downloading if is_running => estimate_remaining(left, state.rate_per_second)
            .map(|left| format!("about {}", format_duration(left))),
        Status::Collecting | Status::Downloading => None,
        Status::Idle if !is_running => None,
        Status::Completed => {
            state.completion_time.map(|at| format!("since {}", format_clock_time(at, now)))
        }
        Status::AuthFailed if !is_running => Some(format!("new {}", standing.credential())),
        Status::AuthFailed => {
            let until = state.state_until.filter(|until| *until > now);
            let clock =
                until.map_or_else(|| "now".to_owned(), |until| format_clock_time(until, now));
            Some(format!("{clock} or new {}", standing.credential()))
        }
        Status::Idle | Status::Error | Status::RateLimited => wait,
    };
    text.unwrap_or_else(|| EMPTY_CELL.to_owned())
}

fn why(standing: &Standing<'_>, state: &ExecutionState, worker: Worker, now: Timestamp) -> String {
    let mut parts = Vec::new();
    match state.status {
        Status::Collecting | Status::Downloading => match worker {
            // Its deadline is when progress is missed.
            Worker::Running if state.state_until.is_some_and(|until| until <= now) => {
                parts.push(format!(
                    "no progress since {}",
                    format_clock_time(state.last_progress, now)
                ));
            }
            Worker::Running => {}
            Worker::Left => parts.push("it was stopped; the next run goes on from here".to_owned()),
            Worker::Died { pid } => parts.push(format!(
                "its worker (process {pid}) is gone; the next run goes on from here"
            )),
        },
        Status::Completed => {}
        Status::Idle => match worker {
            Worker::Running if state.state_until.is_some_and(|until| until <= now) => {
                parts.push("looking for something new".to_owned());
            }
            Worker::Running => {}
            Worker::Left | Worker::Died { .. } => {
                parts.push("the next run looks for something new".to_owned());
            }
        },
        Status::Error | Status::RateLimited => parts.push(sanitize_line(&state.reason)),
        Status::AuthFailed => {
            parts.push(sanitize_line(&state.reason));
            let cause = state.last_error.as_ref().map(|error| error.cause.as_str());
            // That sentence has its own remedy.
            if cause != Some(Cause::AccountChanged.name()) {
                parts.extend(remedy(standing));
            }
        }
    }
    parts.extend(restarted(state, now));
    if state.waiting_for_retry > 0 {
        parts.push(format!("{} waiting for a retry", format_count(state.waiting_for_retry)));
    }
    if state.quarantined > 0 {
        parts.push(format!("{} quarantined", format_count(state.quarantined)));
    }
    if parts.is_empty() { EMPTY_CELL.to_owned() } else { parts.join("; ") }
}

/// That it was started anew, as long as nothing has moved since.
fn restarted(state: &ExecutionState, now: Timestamp) -> Option<String> {
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
fn remedy(standing: &Standing<'_>) -> Option<String> {
    let what = standing.credential();
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
fn with_circuits(why: String, standing: &Standing<'_>, circuits: &Remarks) -> String {
    let settings = standing.source.settings.as_ref();
    let (provider, is_told) = match &standing.seen {
        Seen::State(state, _) => {
            let is_told = state.status == Status::Error && why.contains("the circuit of");
            (Some(state.provider.as_str()), is_told)
        }
        Seen::NeverRun | Seen::Untold(_) => {
            (settings.map(|settings| settings.provider.as_str()), false)
        }
    };
    match provider.and_then(|provider| circuits.of(provider)).filter(|_| !is_told) {
        Some(remark) if why == EMPTY_CELL => remark,
        Some(remark) => format!("{why}; {remark}"),
        None => why,
    }
}

/// Adds what the configuration says of the source, where that is not as usual.
fn with_remarks(why: String, standing: &Standing<'_>) -> String {
    let name = &standing.source.name;
    let remark = match &standing.source.settings {
        None if standing.source.is_unclear => "its configuration cannot be read".to_owned(),
        None => format!("not in the configuration; `cynosure reset {name}` forgets it"),
        Some(source) if !source.is_enabled => "disabled in the configuration".to_owned(),
        Some(_) => return why,
    };
    if why == EMPTY_CELL { remark } else { format!("{why}; {remark}") }
}
