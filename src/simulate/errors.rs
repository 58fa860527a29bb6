//! What is wrong with a file that was to be rehearsed.

use std::error::Error;
use std::fmt;

use crate::config::Diagnostic;

/// More mistakes than this are one mistake made again and again.
const DIAGNOSTICS_SHOWN_MAX: usize = 20;

/// Every mistake of a scenario or a trace, at least one, in reading order.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ScenarioFileError {
    file_kind: &'static str,
    diagnostics: Vec<Diagnostic>,
}

impl ScenarioFileError {
    pub(super) fn new(noun: &'static str, mut mistakes: Vec<Diagnostic>) -> Self {
        mistakes.sort();
        mistakes.dedup();
        Self { file_kind: noun, diagnostics: mistakes }
    }
}

impl fmt::Display for ScenarioFileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for mistake in self.diagnostics.iter().take(DIAGNOSTICS_SHOWN_MAX) {
            writeln!(f, "{mistake}")?;
        }
        let more = self.diagnostics.len().saturating_sub(DIAGNOSTICS_SHOWN_MAX);
        if more > 0 {
            writeln!(f, "and {more} more of them")?;
        }
        match self.diagnostics.len() {
            1 => write!(f, "1 mistake in the {}", self.file_kind),
            count => write!(f, "{count} mistakes in the {}", self.file_kind),
        }
    }
}

impl Error for ScenarioFileError {}
