//! Errors in a scenario file or a trace.

use std::error::Error;
use std::fmt;

use cynosure_engine::user_input::Diagnostic;

/// Maximum number of errors shown. More than 20 are usually one mistake repeated.
const DIAGNOSTICS_SHOWN_MAX: usize = 20;

/// All errors of a scenario or a trace, at least one, in reading order.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ScenarioFileError {
    file_kind: &'static str,
    diagnostics: Vec<Diagnostic>,
}

impl ScenarioFileError {
    /// Sorts the errors of a file of this kind into reading order and removes duplicates.
    #[must_use]
    pub fn new(file_kind: &'static str, mut diagnostics: Vec<Diagnostic>) -> Self {
        diagnostics.sort();
        diagnostics.dedup();
        Self { file_kind, diagnostics }
    }
}

impl fmt::Display for ScenarioFileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for diagnostic in self.diagnostics.iter().take(DIAGNOSTICS_SHOWN_MAX) {
            writeln!(f, "{diagnostic}")?;
        }
        let more = self.diagnostics.len().saturating_sub(DIAGNOSTICS_SHOWN_MAX);
        if more > 0 {
            writeln!(f, "and {more} more")?;
        }
        match self.diagnostics.len() {
            1 => write!(f, "1 mistake in the {}", self.file_kind),
            count => write!(f, "{count} mistakes in the {}", self.file_kind),
        }
    }
}

impl Error for ScenarioFileError {}
