//! `simulate`: how a policy does against a made-up server, beside another one.

mod input;
mod policy;
mod report;
mod verdict;

use std::io::{self, IsTerminal};
use std::path::Path;
use std::time::Duration;

use crate::cli::args::{Common, SimulateArgs};
use crate::cli::exit::Exit;
use crate::cli::plot::{Look, Paint, svg, terminal};
use crate::cli::print::{note, show};
use crate::cli::table::table;
use crate::cli::trouble::Trouble;
use crate::config::EnvVars;
use crate::disk::{RealDisk, write_durable};
use crate::simulate::{Scenario, SendStrategy, Simulation, StopCondition, builtin_scenarios, run};

use self::report::{Rehearsal, Report};

pub(super) use self::policy::{Policy, policy};

/// The width of a plot where there is no terminal, in columns.
const COLUMNS_DEFAULT: usize = 80;

/// So many samples make a plot that shows what there is, and a short list.
const SAMPLES: u32 = 4000;

/// Who is not done after so many times the time that the quota takes is given up.
const PATIENCE: u32 = 20;

/// No trial is shorter, so that a small mailbox outlives a hold, or longer.
const LASTS_MIN: Duration = Duration::from_secs(3600);
const LASTS_MAX: Duration = Duration::from_secs(31 * 86_400);

pub(super) fn simulate(common: &Common, args: &SimulateArgs) -> Result<Exit, Trouble> {
    let Some(what) = &args.scenario else {
        show(list())?;
        return Ok(Exit::Done);
    };
    let (chosen, header_names) = policy::chosen(common, args)?;
    let input = input::find(what, &header_names)?;
    let policies = [chosen, args.against.clone()];
    let step = step(&input.scenario);
    let runs = policies.map(|Policy { name, strategy, workers }| {
        let workers = workers.unwrap_or(input.scenario.workers);
        let trial = trial(&input.scenario, strategy, workers, args.seed, step);
        Rehearsal { name, workers, outcome: run(&trial) }
    });
    let report =
        Report { name: input.name, scenario: input.scenario, told: input.told, runs, step };
    // First, since whoever reads the rest may leave early.
    let saved = args.svg.as_ref().map(|path| save(path, &svg(&report.chart())));
    if args.json {
        show(format!("{:#}", report.json()))?;
    } else {
        let plot = terminal(&report.chart(), look(&EnvVars::from_process()));
        show(format!("{}\n{plot}\n{}", report.head_and_table(), verdict::verdict(&report)))?;
    }
    if let Some(saved) = saved {
        note(saved?);
    }
    Ok(Exit::Done)
}

/// The scenarios that need no file, a line each.
fn list() -> String {
    let rows: Vec<Vec<String>> = builtin_scenarios()
        .map(|(name, text)| {
            let about = Scenario::parse(Path::new(name), text).map(|scenario| scenario.description);
            vec![name.to_owned(), about.unwrap_or_else(|mistakes| mistakes.to_string())]
        })
        .collect();
    format!(
        "{}\n`cynosure simulate NAME` rehearses one. A file of your own, or a trace of what a server did, \
         is named by its path.",
        table(&["SCENARIO", "THE SERVER"], &rows)
    )
}

/// Sets up one policy before the server of the scenario.
fn trial(
    scenario: &Scenario,
    strategy: SendStrategy,
    workers: u32,
    seed: u64,
    sample: Duration,
) -> Simulation {
    let (lasts, work) = match scenario.stop_condition {
        StopCondition::Elapsed(lasts) => (lasts, None),
        StopCondition::Requests(requests) => {
            let patience = scenario.min_duration(requests).saturating_mul(PATIENCE);
            (patience.clamp(LASTS_MIN, LASTS_MAX), Some(requests))
        }
    };
    Simulation {
        server: scenario.server.clone(),
        strategy,
        workers,
        weight: scenario.weight,
        duration: lasts,
        request_goal: work,
        seed,
        sample_interval: sample,
    }
}

/// The time that a sample covers.
fn step(scenario: &Scenario) -> Duration {
    let whole = match scenario.stop_condition {
        StopCondition::Elapsed(lasts) => lasts,
        StopCondition::Requests(requests) => scenario.min_duration(requests).min(LASTS_MAX),
    };
    (whole / SAMPLES).max(Duration::from_secs(1))
}

/// What the plot is drawn on: a terminal as wide as it is, or 80 columns of plain text.
fn look(environment: &EnvVars) -> Look {
    let stdout = io::stdout();
    let is_terminal = stdout.is_terminal();
    let no_color = environment.get("NO_COLOR").is_some_and(|value| !value.is_empty());
    let size = rustix::termios::tcgetwinsize(&stdout).ok().filter(|_| is_terminal);
    let columns = size.map(|size| usize::from(size.ws_col)).filter(|columns| *columns > 0);
    let paint = if is_terminal && !no_color { Paint::Colours } else { Paint::Plain };
    Look { columns: columns.unwrap_or(COLUMNS_DEFAULT), paint }
}

/// Writes the plot, and returns what is said of it.
fn save(path: &Path, text: &str) -> Result<String, Trouble> {
    match write_durable(&RealDisk, path, text.as_bytes()) {
        Ok(()) => Ok(format!("The plot is in {}.", path.display())),
        Err(error) => {
            let path = path.display();
            let why =
                format!("cannot write {path}: {error}; name a file in a folder that is there");
            Err(Trouble::new(Exit::Other, why))
        }
    }
}
