//! `simulate`: comparison of two rate limit policies against a simulated server.

mod comparison;
mod input;
pub(in crate::cli) mod policy;
mod report;
mod scenario_file;

use std::io::{self, IsTerminal};
use std::path::Path;
use std::time::Duration;

use cynosure_engine::rate_limit::{HeaderNames, RateLimitPolicy};
use cynosure_lab::plot::{ColourMode, TerminalOptions, render_svg, render_terminal};
use cynosure_lab::simulate::{Scenario, SendStrategy, Simulation, StopCondition, run};

use self::policy::NamedPolicy;
use self::report::{PolicyResult, SimulationReport};
use self::scenario_file::{builtin_scenarios, parse_scenario};
use crate::app::context::AppContext;
use crate::app::error::ProgramError;
use crate::app::exit::ProgramExit;
use crate::cli::args::{CommonArgs, SimulateArgs};
use crate::cli::print::{print_note, print_result, sorted_json};
use crate::cli::table::table;
use crate::config::{EnvVars, Settings};
use crate::disk::{RealDisk, write_durable};

/// Width of a plot without a terminal, in columns.
const COLUMNS_DEFAULT: usize = 80;

/// Number of samples of a simulation: enough detail for a plot, and a short list.
const SAMPLES_TARGET: u32 = 4000;

/// A simulation is given up after this multiple of the time that the quota requires.
const TIME_LIMIT_FACTOR: u32 = 20;

/// Minimum of that time limit, so that a small mailbox is finished even after a block.
const TIME_LIMIT_MIN: Duration = Duration::from_secs(3600);
/// Maximum of that time limit.
const TIME_LIMIT_MAX: Duration = Duration::from_secs(31 * 86_400);

pub(super) fn simulate(
    common: &CommonArgs,
    args: &SimulateArgs,
) -> Result<ProgramExit, ProgramError> {
    let Some(scenario) = &args.scenario else {
        print_result(scenario_list())?;
        return Ok(ProgramExit::Success);
    };
    let (chosen, header_names) = select_policy(common, args)?;
    let input = input::load(scenario, &header_names)?;
    let policies = [chosen, args.against.clone()];
    let interval = sample_interval(&input.scenario);
    let results = policies.map(|NamedPolicy { name, strategy, workers }| {
        let workers = workers.unwrap_or(input.scenario.workers);
        let simulation = build_simulation(&input.scenario, strategy, workers, args.seed, interval);
        PolicyResult { name, workers, result: run(&simulation) }
    });
    let report = SimulationReport {
        name: input.name,
        scenario: input.scenario,
        notes: input.notes,
        results,
        sample_interval: interval,
    };
    // Before the output, since printing ends the command early if stdout is closed.
    let saved = args.svg.as_ref().map(|path| save_svg(path, &render_svg(&report.to_chart())));
    let verdict = comparison::compare(&report);
    if args.json {
        print_result(format!("{:#}", sorted_json(&report.to_json(&verdict))))?;
    } else {
        let plot = render_terminal(&report.to_chart(), terminal_options(&EnvVars::from_process()));
        print_result(format!("{}\n{plot}\n{verdict}", report.summary_table()))?;
    }
    if let Some(saved) = saved {
        print_note(saved?);
    }
    Ok(ProgramExit::Success)
}

/// Selects the policy to simulate: the argument, else that of the configured provider, else
/// `follow`. Returns it with the header names of the provider.
fn select_policy(
    common: &CommonArgs,
    args: &SimulateArgs,
) -> Result<(NamedPolicy, HeaderNames), ProgramError> {
    if let Some(policy) = &args.policy {
        return Ok((policy.clone(), HeaderNames::default()));
    }
    let Some(name) = &args.provider else {
        let follow =
            NamedPolicy::new("follow", SendStrategy::RateLimiter(RateLimitPolicy::default()));
        return Ok((follow, HeaderNames::default()));
    };
    let context = AppContext::load(&common.config_location())?;
    let settings = &context.loaded.settings;
    let source_providers = settings.sources.values().map(|source| &source.provider);
    let known: Vec<&String> = settings.providers.keys().chain(source_providers).collect();
    if known.contains(&name) {
        return Ok(configured_policy(settings, name));
    }
    let mut known: Vec<&str> = known.into_iter().map(String::as_str).collect();
    known.sort_unstable();
    known.dedup();
    let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
    let message = format!(
        "there is no provider {name:?} in {}; known providers: {known}",
        context.config_file.display()
    );
    Err(ProgramError::new(ProgramExit::Configuration, message))
}

/// Returns the policy and the header names of a provider in the configuration.
fn configured_policy(settings: &Settings, name: &str) -> (NamedPolicy, HeaderNames) {
    let provider = settings.provider_or_default(name);
    let workers = Some(provider.concurrency);
    let strategy = SendStrategy::RateLimiter(settings.rate_limit_policy(name));
    (NamedPolicy { name: name.to_owned(), strategy, workers }, provider.headers)
}

/// Returns the table of the built-in scenarios.
fn scenario_list() -> String {
    let rows: Vec<Vec<String>> = builtin_scenarios()
        .map(|(name, text)| {
            let description =
                parse_scenario(Path::new(name), text).map(|scenario| scenario.description);
            vec![name.to_owned(), description.unwrap_or_else(|error| error.to_string())]
        })
        .collect();
    format!(
        "{}\n`cynosure simulate NAME` runs one of them. For your own scenario, or a trace of a \
         server, give the path of its file.",
        table(&["SCENARIO", "THE SERVER"], &rows)
    )
}

/// Creates the simulation of one policy in a scenario.
fn build_simulation(
    scenario: &Scenario,
    strategy: SendStrategy,
    workers: u32,
    seed: u64,
    sample_interval: Duration,
) -> Simulation {
    let (duration, request_goal) = match scenario.stop_condition {
        StopCondition::Elapsed(duration) => (duration, None),
        StopCondition::Requests(requests) => {
            let time_limit = scenario.min_duration(requests).saturating_mul(TIME_LIMIT_FACTOR);
            (time_limit.clamp(TIME_LIMIT_MIN, TIME_LIMIT_MAX), Some(requests))
        }
    };
    Simulation {
        server: scenario.server.clone(),
        strategy,
        workers,
        weight: scenario.weight,
        duration,
        request_goal,
        seed,
        sample_interval,
    }
}

/// Returns the time that each sample covers.
fn sample_interval(scenario: &Scenario) -> Duration {
    let duration = match scenario.stop_condition {
        StopCondition::Elapsed(duration) => duration,
        StopCondition::Requests(requests) => scenario.min_duration(requests).min(TIME_LIMIT_MAX),
    };
    (duration / SAMPLES_TARGET).max(Duration::from_secs(1))
}

/// Returns the width and colours of the terminal, or 80 columns without colours if there is none.
fn terminal_options(environment: &EnvVars) -> TerminalOptions {
    let stdout = io::stdout();
    let is_terminal = stdout.is_terminal();
    let no_color = environment.get("NO_COLOR").is_some_and(|value| !value.is_empty());
    let size = rustix::termios::tcgetwinsize(&stdout).ok().filter(|_| is_terminal);
    let columns = size.map(|size| usize::from(size.ws_col)).filter(|columns| *columns > 0);
    let colour_mode = if is_terminal && !no_color { ColourMode::Colour } else { ColourMode::Plain };
    TerminalOptions { columns: columns.unwrap_or(COLUMNS_DEFAULT), colour_mode }
}

/// Writes the plot, and returns a note with its path.
fn save_svg(path: &Path, text: &str) -> Result<String, ProgramError> {
    match write_durable(&RealDisk, path, text.as_bytes()) {
        Ok(()) => Ok(format!("The plot is in {}.", path.display())),
        Err(error) => {
            let path = path.display();
            let message =
                format!("cannot write {path}: {error}; choose a file in an existing folder");
            Err(ProgramError::new(ProgramExit::Other, message))
        }
    }
}
