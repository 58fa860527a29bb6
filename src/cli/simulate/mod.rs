//! `simulate`: how a policy does against a made-up server, beside another one.

mod comparison;
mod input;
mod policy;
mod report;

use std::io::{self, IsTerminal};
use std::path::Path;
use std::time::Duration;

use crate::cli::args::{CommonArgs, SimulateArgs};
use crate::cli::error::CliError;
use crate::cli::exit::ProgramExit;
use crate::cli::plot::{ColourMode, TerminalOptions, render_svg, render_terminal};
use crate::cli::print::{print_note, print_result};
use crate::cli::table::table;
use crate::config::EnvVars;
use crate::disk::{RealDisk, write_durable};
use crate::simulate::{Scenario, SendStrategy, Simulation, StopCondition, builtin_scenarios, run};

use self::report::{PolicyResult, SimulationReport};

pub(super) use self::policy::{NamedPolicy, parse_policy};

/// The width of a plot where there is no terminal, in columns.
const COLUMNS_DEFAULT: usize = 80;

/// So many samples make a plot that shows what there is, and a short list.
const SAMPLES_TARGET: u32 = 4000;

/// Who is not done after so many times the time that the quota takes is given up.
const TIME_LIMIT_FACTOR: u32 = 20;

/// No trial is shorter, so that a small mailbox outlives a hold, or longer.
const DURATION_MIN: Duration = Duration::from_secs(3600);
const DURATION_MAX: Duration = Duration::from_secs(31 * 86_400);

pub(super) fn simulate(common: &CommonArgs, args: &SimulateArgs) -> Result<ProgramExit, CliError> {
    let Some(what) = &args.scenario else {
        print_result(scenario_list())?;
        return Ok(ProgramExit::Success);
    };
    let (chosen, header_names) = policy::select_policy(common, args)?;
    let input = input::load(what, &header_names)?;
    let policies = [chosen, args.against.clone()];
    let step = sample_interval(&input.scenario);
    let runs = policies.map(|NamedPolicy { name, strategy, workers }| {
        let workers = workers.unwrap_or(input.scenario.workers);
        let trial = build_simulation(&input.scenario, strategy, workers, args.seed, step);
        PolicyResult { name, workers, result: run(&trial) }
    });
    let report = SimulationReport {
        name: input.name,
        scenario: input.scenario,
        notes: input.notes,
        results: runs,
        sample_interval: step,
    };
    // First, since whoever reads the rest may leave early.
    let saved = args.svg.as_ref().map(|path| save_svg(path, &render_svg(&report.to_chart())));
    if args.json {
        print_result(format!("{:#}", report.to_json()))?;
    } else {
        let plot = render_terminal(&report.to_chart(), terminal_options(&EnvVars::from_process()));
        print_result(format!(
            "{}\n{plot}\n{}",
            report.summary_table(),
            comparison::compare(&report)
        ))?;
    }
    if let Some(saved) = saved {
        print_note(saved?);
    }
    Ok(ProgramExit::Success)
}

/// The scenarios that need no file, a line each.
fn scenario_list() -> String {
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
fn build_simulation(
    scenario: &Scenario,
    strategy: SendStrategy,
    workers: u32,
    seed: u64,
    sample: Duration,
) -> Simulation {
    let (lasts, work) = match scenario.stop_condition {
        StopCondition::Elapsed(lasts) => (lasts, None),
        StopCondition::Requests(requests) => {
            let patience = scenario.min_duration(requests).saturating_mul(TIME_LIMIT_FACTOR);
            (patience.clamp(DURATION_MIN, DURATION_MAX), Some(requests))
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
fn sample_interval(scenario: &Scenario) -> Duration {
    let whole = match scenario.stop_condition {
        StopCondition::Elapsed(lasts) => lasts,
        StopCondition::Requests(requests) => scenario.min_duration(requests).min(DURATION_MAX),
    };
    (whole / SAMPLES_TARGET).max(Duration::from_secs(1))
}

/// What the plot is drawn on: a terminal as wide as it is, or 80 columns of plain text.
fn terminal_options(environment: &EnvVars) -> TerminalOptions {
    let stdout = io::stdout();
    let is_terminal = stdout.is_terminal();
    let no_color = environment.get("NO_COLOR").is_some_and(|value| !value.is_empty());
    let size = rustix::termios::tcgetwinsize(&stdout).ok().filter(|_| is_terminal);
    let columns = size.map(|size| usize::from(size.ws_col)).filter(|columns| *columns > 0);
    let paint = if is_terminal && !no_color { ColourMode::Colour } else { ColourMode::Plain };
    TerminalOptions { columns: columns.unwrap_or(COLUMNS_DEFAULT), colour_mode: paint }
}

/// Writes the plot, and returns what is said of it.
fn save_svg(path: &Path, text: &str) -> Result<String, CliError> {
    match write_durable(&RealDisk, path, text.as_bytes()) {
        Ok(()) => Ok(format!("The plot is in {}.", path.display())),
        Err(error) => {
            let path = path.display();
            let why =
                format!("cannot write {path}: {error}; name a file in a folder that is there");
            Err(CliError::new(ProgramExit::Other, why))
        }
    }
}
