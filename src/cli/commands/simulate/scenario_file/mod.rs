//! Scenario files: a simulated server with its limit and outages, and the requests to send to it.
//!
//! `docs/simulate.md` describes every key.

mod builtin;
mod read;
#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::Arc;

use cynosure_lab::simulate::{Scenario, ScenarioFileError};

use crate::config::read_single_file;

pub(crate) use self::builtin::{builtin_scenarios, find_builtin};

/// Parses the text of a scenario file. `file` is the path that errors show.
///
/// # Errors
/// Returns all errors of the file at once.
pub(crate) fn parse_scenario(file: &Path, text: &str) -> Result<Scenario, ScenarioFileError> {
    let file: Arc<Path> = Arc::from(file);
    read_single_file(&file, text, |top| read::read_scenario(&file, top))
        .map_err(|diagnostics| ScenarioFileError::new("scenario", diagnostics))
}
