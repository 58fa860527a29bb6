//! Scenario to simulate: a built-in one, the user's file, or one inferred from a trace.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use cynosure_engine::format_bytes;
use cynosure_engine::rate_limit::HeaderNames;
use cynosure_engine::user_input::closest_match;
use cynosure_lab::simulate::{InferredScenario, Scenario, TRACE_BYTES_MAX, Trace};

use crate::app::error::ProgramError;
use crate::app::exit::ProgramExit;
use crate::cli::commands::simulate::scenario_file::{
    builtin_scenarios, find_builtin, parse_scenario,
};

/// Maximum size of a scenario file, in bytes. A larger file is not a scenario.
const SCENARIO_BYTES_MAX: u64 = 64 * 1024;

pub(super) struct SimulationInput {
    pub(super) name: String,
    pub(super) scenario: Scenario,
    /// Notes about the origin of the scenario, a sentence each.
    pub(super) notes: Vec<String>,
}

/// Loads a scenario by its name or path. The headers of a trace are parsed with `header_names`.
///
/// # Errors
/// A scenario that does not exist, or all mistakes in it.
pub(super) fn load(
    name_or_path: &str,
    header_names: &HeaderNames,
) -> Result<SimulationInput, ProgramError> {
    let config_error = |message: String| ProgramError::new(ProgramExit::Configuration, message);
    if let Some(scenario) = find_builtin(name_or_path) {
        let scenario = scenario.map_err(|error| config_error(error.to_string()))?;
        return Ok(SimulationInput { name: name_or_path.to_owned(), scenario, notes: Vec::new() });
    }
    let path = Path::new(name_or_path);
    if !path.exists() {
        let builtin_names = builtin_scenarios().map(|(name, _)| name);
        let remedy = match closest_match(name_or_path, builtin_names) {
            Some(suggestion) => format!("did you mean {suggestion}?"),
            None => "`cynosure simulate` lists the scenarios".to_owned(),
        };
        let message = format!("there is no scenario or file {name_or_path:?}; {remedy}");
        return Err(config_error(message));
    }
    let name = path
        .file_stem()
        .map_or_else(|| name_or_path.to_owned(), |stem| stem.to_string_lossy().into_owned());
    if Trace::has_trace_extension(path) {
        let text = read_file(path, TRACE_BYTES_MAX).map_err(config_error)?;
        let trace = Trace::parse(path, &text).map_err(|error| config_error(error.to_string()))?;
        let InferredScenario { scenario, explanations } = trace.infer_scenario(header_names);
        return Ok(SimulationInput { name, scenario, notes: explanations });
    }
    let text = read_file(path, SCENARIO_BYTES_MAX).map_err(config_error)?;
    let scenario = parse_scenario(path, &text).map_err(|error| config_error(error.to_string()))?;
    Ok(SimulationInput { name, scenario, notes: Vec::new() })
}

fn read_file(path: &Path, max_bytes: u64) -> Result<String, String> {
    let read_error = |error: io::Error| format!("cannot read {}: {error}", path.display());
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(read_error)?;
    file.take(max_bytes + 1).read_to_end(&mut bytes).map_err(read_error)?;
    if bytes.len() as u64 > max_bytes {
        return Err(format!(
            "{} is larger than {}, the maximum",
            path.display(),
            format_bytes(max_bytes)
        ));
    }
    String::from_utf8(bytes)
        .map_err(|error| format!("{} is not text: {}", path.display(), error.utf8_error()))
}
