//! `breaker`: what the circuit breakers do, and what a person wants of them.
//!
//! An order is written into the file that the workers share, so that it works beside running ones
//! and without any.

mod list;
mod notes;

use crate::cli::args::{BreakerCommand, CommonArgs};
use crate::cli::context::AppContext;
use crate::cli::error::CliError;
use crate::cli::exit::ProgramExit;
use crate::cli::print::{print_note, print_result};
use crate::cli::source_status::{StateRead, WorkerLiveness, read_status};
use crate::cli::sources::{all_sources, load_context};
use crate::config::closest_match;
use crate::engine::Timestamp;
use crate::engine::breaker::{Breaker, BreakerState, ManualCommand};
use crate::human::format_deadline;
use crate::worker::{
    ARCHIVE, BreakerStates, BreakersFile, Env, LEDGER, RealEnv, apply_command, breaker_policy,
};

pub(super) use self::notes::BreakerNotes;

pub(super) fn breaker(
    common: &CommonArgs,
    command: &BreakerCommand,
) -> Result<ProgramExit, CliError> {
    let ground = load_context(common)?;
    let now = RealEnv.now();
    match command {
        BreakerCommand::List { json } => list::list(&ground, *json, now),
        BreakerCommand::Reset { name } => {
            run_command(&ground, name, ManualCommand::Reset, now)?;
            print_result(format!(
                "{name} is closed, and its counts are forgotten; {}",
                propagation_note(&ground, name)?
            ))?;
            Ok(ProgramExit::Success)
        }
        BreakerCommand::Close { name } => {
            let breaker = run_command(&ground, name, ManualCommand::Close, now)?;
            let is = if breaker.state_since() == now { "is closed" } else { "was closed already" };
            print_result(format!("{name} {is}; {}", propagation_note(&ground, name)?))?;
            Ok(ProgramExit::Success)
        }
        BreakerCommand::Open { name, lasts } => {
            let until = lasts.map(|lasts| now.after(lasts));
            run_command(&ground, name, ManualCommand::Open { until }, now)?;
            let end = match until {
                Some(until) => format!(
                    "until {}, then one request may try; `cynosure breaker close {name}` ends it sooner",
                    format_deadline(until, now)
                ),
                None => format!("until `cynosure breaker close {name}`"),
            };
            print_result(format!("{name} is open {end}; {}", propagation_note(&ground, name)?))?;
            Ok(ProgramExit::Success)
        }
    }
}

/// Writes an order down where the workers find it.
fn run_command(
    ground: &AppContext,
    name: &str,
    wanted: ManualCommand,
    now: Timestamp,
) -> Result<Breaker, CliError> {
    let file = BreakersFile::new(&ground.state_dir);
    // A file that cannot be read is put aside by the order itself.
    let memories = file.read()?.unwrap_or_default();
    reject_unknown(&breaker_names(ground, &memories)?, name)?;
    let policy = breaker_policy(&ground.loaded.settings);
    let ordered = apply_command(&file, name, wanted, policy, now)?;
    if let Some(found) = ordered.warning {
        print_note(found);
    }
    Ok(ordered.breaker)
}

/// Every breaker there is or can be: of what all sources share, and of each provider.
fn breaker_names(ground: &AppContext, memories: &BreakerStates) -> Result<Vec<String>, CliError> {
    let sources = all_sources(ground)?;
    let providers = sources.iter().filter_map(|source| source.settings.as_ref());
    let mut names: Vec<String> = providers.map(|source| source.provider.clone()).collect();
    names.extend(memories.keys().cloned());
    names.retain(|name| name != LEDGER && name != ARCHIVE);
    names.sort();
    names.dedup();
    names.extend([ARCHIVE, LEDGER].map(str::to_owned));
    Ok(names)
}

fn reject_unknown(names: &[String], name: &str) -> Result<(), CliError> {
    if names.iter().any(|known| known == name) {
        return Ok(());
    }
    let remedy = match closest_match(name, names.iter().map(String::as_str)) {
        Some(meant) => format!("did you mean {meant}?"),
        None => format!("there are {}", names.join(", ")),
    };
    Err(CliError::new(
        ProgramExit::Configuration,
        format!("there is no breaker {name:?}; {remedy}"),
    ))
}

/// Who notices, and when.
fn propagation_note(ground: &AppContext, name: &str) -> Result<String, CliError> {
    let sources = all_sources(ground)?;
    let concerned = sources.iter().filter(|source| {
        let provider = source.settings.as_ref().map(|settings| settings.provider.as_str());
        name == LEDGER || name == ARCHIVE || provider == Some(name)
    });
    let at_work = concerned
        .filter(|source| {
            matches!(read_status(source).state, StateRead::State(_, WorkerLiveness::Running))
        })
        .map(|source| source.name.to_string());
    let at_work: Vec<String> = at_work.collect();
    Ok(match at_work.as_slice() {
        [] => "no worker is running: the next one begins with it".to_owned(),
        [one] => format!("the worker of {one} heeds it within seconds"),
        several => format!("the workers of {} heed it within seconds", several.join(", ")),
    })
}

/// The state in a word for people.
fn state_name(phase: BreakerState) -> &'static str {
    match phase {
        BreakerState::Closed => "closed",
        BreakerState::Open => "open",
        BreakerState::HalfOpen => "half-open",
    }
}
