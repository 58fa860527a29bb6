//! What is rehearsed: a shipped scenario, a file of one's own, or a trace.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use crate::cli::error::CliError;
use crate::cli::exit::ProgramExit;
use crate::config::closest_match;
use crate::engine::rate_limit::HeaderNames;
use crate::human::format_bytes;
use crate::simulate::{
    InferredScenario, Scenario, TRACE_BYTES_MAX, Trace, builtin_scenarios,
    find_builtin as find_shipped,
};

/// A scenario that is larger is something else.
const SCENARIO_BYTES_MAX: u64 = 64 * 1024;

pub(super) struct SimulationInput {
    pub(super) name: String,
    pub(super) scenario: Scenario,
    /// What a person should know of how it came about.
    pub(super) notes: Vec<String>,
}

/// Finds what was named, by name or by path. In a trace, headers may have `names` of their own.
///
/// # Errors
/// When there is none, or it is wrong: every mistake in it.
pub(super) fn load(what: &str, names: &HeaderNames) -> Result<SimulationInput, CliError> {
    let wrong = |why: String| CliError::new(ProgramExit::Configuration, why);
    if let Some(scenario) = find_shipped(what) {
        let scenario = scenario.map_err(|mistakes| wrong(mistakes.to_string()))?;
        return Ok(SimulationInput { name: what.to_owned(), scenario, notes: Vec::new() });
    }
    let path = Path::new(what);
    if !path.exists() {
        let names = builtin_scenarios().map(|(name, _)| name);
        let remedy = match closest_match(what, names) {
            Some(meant) => format!("did you mean {meant}?"),
            None => "`cynosure simulate` lists the scenarios".to_owned(),
        };
        return Err(wrong(format!("there is no scenario or file {what:?}; {remedy}")));
    }
    let name = path
        .file_stem()
        .map_or_else(|| what.to_owned(), |stem| stem.to_string_lossy().into_owned());
    if Trace::has_trace_extension(path) {
        let text = read_file(path, TRACE_BYTES_MAX).map_err(wrong)?;
        let trace = Trace::parse(path, &text).map_err(|mistakes| wrong(mistakes.to_string()))?;
        let InferredScenario { scenario, explanations: told } = trace.infer_scenario(names);
        return Ok(SimulationInput { name, scenario, notes: told });
    }
    let text = read_file(path, SCENARIO_BYTES_MAX).map_err(wrong)?;
    let scenario = Scenario::parse(path, &text).map_err(|mistakes| wrong(mistakes.to_string()))?;
    Ok(SimulationInput { name, scenario, notes: Vec::new() })
}

fn read_file(path: &Path, most: u64) -> Result<String, String> {
    let cannot = |error: io::Error| format!("cannot read {}: {error}", path.display());
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(cannot)?;
    file.take(most + 1).read_to_end(&mut bytes).map_err(cannot)?;
    if bytes.len() as u64 > most {
        return Err(format!(
            "{} is larger than {}, which none is",
            path.display(),
            format_bytes(most)
        ));
    }
    String::from_utf8(bytes)
        .map_err(|error| format!("{} is not text: {}", path.display(), error.utf8_error()))
}
