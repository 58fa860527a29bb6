//! `breaker`: what the circuit breakers do, and what a person wants of them.
//!
//! An order is written into the file that the workers share, so that it works beside running ones
//! and without any.

mod list;
mod remark;

use crate::cli::args::{BreakerCommand, Common};
use crate::cli::exit::Exit;
use crate::cli::place::Ground;
use crate::cli::print::{note, show};
use crate::cli::sources::{all, ground};
use crate::cli::standing::{Seen, Worker, look};
use crate::cli::trouble::Trouble;
use crate::config::closest_match;
use crate::engine::Timestamp;
use crate::engine::breaker::{Breaker, BreakerState, ManualCommand};
use crate::human::format_deadline;
use crate::worker::{
    ARCHIVE, BreakerStates, BreakersFile, Env, LEDGER, RealEnv, apply_command, breaker_policy,
};

pub(super) use self::remark::Remarks;

pub(super) fn breaker(common: &Common, command: &BreakerCommand) -> Result<Exit, Trouble> {
    let ground = ground(common)?;
    let now = RealEnv.now();
    match command {
        BreakerCommand::List { json } => list::list(&ground, *json, now),
        BreakerCommand::Reset { name } => {
            carry_out(&ground, name, ManualCommand::Reset, now)?;
            show(format!(
                "{name} is closed, and its counts are forgotten; {}",
                outlook(&ground, name)?
            ))?;
            Ok(Exit::Done)
        }
        BreakerCommand::Close { name } => {
            let breaker = carry_out(&ground, name, ManualCommand::Close, now)?;
            let is = if breaker.state_since() == now { "is closed" } else { "was closed already" };
            show(format!("{name} {is}; {}", outlook(&ground, name)?))?;
            Ok(Exit::Done)
        }
        BreakerCommand::Open { name, lasts } => {
            let until = lasts.map(|lasts| now.after(lasts));
            carry_out(&ground, name, ManualCommand::Open { until }, now)?;
            let end = match until {
                Some(until) => format!(
                    "until {}, then one request may try; `cynosure breaker close {name}` ends it sooner",
                    format_deadline(until, now)
                ),
                None => format!("until `cynosure breaker close {name}`"),
            };
            show(format!("{name} is open {end}; {}", outlook(&ground, name)?))?;
            Ok(Exit::Done)
        }
    }
}

/// Writes an order down where the workers find it.
fn carry_out(
    ground: &Ground,
    name: &str,
    wanted: ManualCommand,
    now: Timestamp,
) -> Result<Breaker, Trouble> {
    let file = BreakersFile::new(&ground.state_dir);
    // A file that cannot be read is put aside by the order itself.
    let memories = file.read()?.unwrap_or_default();
    refuse_unknown(&names(ground, &memories)?, name)?;
    let policy = breaker_policy(&ground.loaded.settings);
    let ordered = apply_command(&file, name, wanted, policy, now)?;
    if let Some(found) = ordered.warning {
        note(found);
    }
    Ok(ordered.breaker)
}

/// Every breaker there is or can be: of what all sources share, and of each provider.
fn names(ground: &Ground, memories: &BreakerStates) -> Result<Vec<String>, Trouble> {
    let sources = all(ground)?;
    let providers = sources.iter().filter_map(|source| source.settings.as_ref());
    let mut names: Vec<String> = providers.map(|source| source.provider.clone()).collect();
    names.extend(memories.keys().cloned());
    names.retain(|name| name != LEDGER && name != ARCHIVE);
    names.sort();
    names.dedup();
    names.extend([ARCHIVE, LEDGER].map(str::to_owned));
    Ok(names)
}

fn refuse_unknown(names: &[String], name: &str) -> Result<(), Trouble> {
    if names.iter().any(|known| known == name) {
        return Ok(());
    }
    let remedy = match closest_match(name, names.iter().map(String::as_str)) {
        Some(meant) => format!("did you mean {meant}?"),
        None => format!("there are {}", names.join(", ")),
    };
    Err(Trouble::new(Exit::Configuration, format!("there is no breaker {name:?}; {remedy}")))
}

/// Who notices, and when.
fn outlook(ground: &Ground, name: &str) -> Result<String, Trouble> {
    let sources = all(ground)?;
    let concerned = sources.iter().filter(|source| {
        let provider = source.settings.as_ref().map(|settings| settings.provider.as_str());
        name == LEDGER || name == ARCHIVE || provider == Some(name)
    });
    let at_work = concerned
        .filter(|source| matches!(look(source).seen, Seen::State(_, Worker::Running)))
        .map(|source| source.name.to_string());
    let at_work: Vec<String> = at_work.collect();
    Ok(match at_work.as_slice() {
        [] => "no worker is running: the next one begins with it".to_owned(),
        [one] => format!("the worker of {one} heeds it within seconds"),
        several => format!("the workers of {} heed it within seconds", several.join(", ")),
    })
}

/// The state in a word for people.
fn word(phase: BreakerState) -> &'static str {
    match phase {
        BreakerState::Closed => "closed",
        BreakerState::Open => "open",
        BreakerState::HalfOpen => "half-open",
    }
}
