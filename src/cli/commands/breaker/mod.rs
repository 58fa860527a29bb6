//! `breaker`: shows the circuit breakers, and opens, closes or resets one manually.
//!
//! A command is written to the file that the workers share, so that it has an effect with running
//! workers and without any.

mod list;

use cynosure_engine::Timestamp;
use cynosure_engine::breaker::{Breaker, BreakerState, ManualCommand};
use cynosure_engine::user_input::closest_match;

use crate::app::context::AppContext;
use crate::app::error::ProgramError;
use crate::app::exit::ProgramExit;
use crate::app::sources::all_sources;
use crate::cli::args::{BreakerCommand, CommonArgs};
use crate::cli::print::{print_note, print_result};
use crate::env::{Env, RealEnv};
use crate::human::format_deadline;
use crate::worker::{ARCHIVE, BreakerStates, LEDGER, apply_command};

pub(super) fn breaker(
    common: &CommonArgs,
    command: &BreakerCommand,
) -> Result<ProgramExit, ProgramError> {
    let context = AppContext::load(&common.config_location())?;
    let now = RealEnv.now();
    match command {
        BreakerCommand::List { json } => list::list(&context, *json, now),
        BreakerCommand::Reset { name } => {
            run_command(&context, name, ManualCommand::Reset, now)?;
            print_result(format!(
                "{name} is closed and its counts are cleared; {}",
                propagation_note(&context, name)?
            ))?;
            Ok(ProgramExit::Success)
        }
        BreakerCommand::Close { name } => {
            let breaker = run_command(&context, name, ManualCommand::Close, now)?;
            let state =
                if breaker.state_since() == now { "is closed" } else { "was closed already" };
            print_result(format!("{name} {state}; {}", propagation_note(&context, name)?))?;
            Ok(ProgramExit::Success)
        }
        BreakerCommand::Open { name, duration } => {
            let until = duration.map(|duration| now.after(duration));
            run_command(&context, name, ManualCommand::Open { until }, now)?;
            let end = match until {
                Some(until) => format!(
                    "until {}, then one request is sent as a probe; \
                     `cynosure breaker close {name}` closes it sooner",
                    format_deadline(until, now)
                ),
                None => format!("until `cynosure breaker close {name}`"),
            };
            print_result(format!("{name} is open {end}; {}", propagation_note(&context, name)?))?;
            Ok(ProgramExit::Success)
        }
    }
}

/// Writes a command to the file that the workers share.
fn run_command(
    context: &AppContext,
    name: &str,
    command: ManualCommand,
    now: Timestamp,
) -> Result<Breaker, ProgramError> {
    let file = context.state_folder().breakers_file();
    // The command itself moves an unreadable file aside.
    let states = file.read()?.unwrap_or_default();
    reject_unknown(&breaker_names(context, &states)?, name)?;
    let policy = context.loaded.settings.breaker;
    let result = apply_command(&file, name, command, policy, now)?;
    if let Some(warning) = result.warning {
        print_note(warning);
    }
    Ok(result.breaker)
}

/// Returns the names of all breakers: one for each provider, and those of the archive and the
/// ledger, which all sources share.
fn breaker_names(
    context: &AppContext,
    states: &BreakerStates,
) -> Result<Vec<String>, ProgramError> {
    let sources = all_sources(context)?;
    let providers = sources.iter().filter_map(|source| source.settings.as_ref());
    let mut names: Vec<String> = providers.map(|source| source.provider.clone()).collect();
    names.extend(states.keys().cloned());
    names.retain(|name| name != LEDGER && name != ARCHIVE);
    names.sort();
    names.dedup();
    names.extend([ARCHIVE, LEDGER].map(str::to_owned));
    Ok(names)
}

fn reject_unknown(names: &[String], name: &str) -> Result<(), ProgramError> {
    if names.iter().any(|known| known == name) {
        return Ok(());
    }
    let remedy = match closest_match(name, names.iter().map(String::as_str)) {
        Some(suggestion) => format!("did you mean {suggestion}?"),
        None => format!("the breakers are {}", names.join(", ")),
    };
    Err(ProgramError::new(
        ProgramExit::Configuration,
        format!("there is no breaker {name:?}; {remedy}"),
    ))
}

/// Returns a sentence that says which workers apply the command, and when.
fn propagation_note(context: &AppContext, name: &str) -> Result<String, ProgramError> {
    let sources = all_sources(context)?;
    let affected = sources.iter().filter(|source| {
        let provider = source.settings.as_ref().map(|settings| settings.provider.as_str());
        name == LEDGER || name == ARCHIVE || provider == Some(name)
    });
    let running = affected
        .filter(|source| source.folder.read_state().is_running())
        .map(|source| source.name.to_string());
    let running: Vec<String> = running.collect();
    Ok(match running.as_slice() {
        [] => "no worker is running: the next one applies it when it starts".to_owned(),
        [one] => format!("the worker of {one} applies it within seconds"),
        several => format!("the workers of {} apply it within seconds", several.join(", ")),
    })
}

/// Returns the state as shown in tables.
fn state_name(state: BreakerState) -> &'static str {
    match state {
        BreakerState::Closed => "closed",
        BreakerState::Open => "open",
        BreakerState::HalfOpen => "half-open",
    }
}
