//! Errors in a configuration, all reported at once.

use std::error::Error;
use std::fmt;

use cynosure_engine::user_input::Diagnostic;

/// All errors of a configuration, at least one, in reading order.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Diagnostics(Vec<Diagnostic>);

impl Diagnostics {
    /// Sorts the errors into reading order and removes duplicates. `None` if there are none.
    pub(super) fn collect(mut diagnostics: Vec<Diagnostic>) -> Option<Self> {
        diagnostics.sort();
        diagnostics.dedup();
        (!diagnostics.is_empty()).then_some(Self(diagnostics))
    }

    pub fn iter(&self) -> impl Iterator<Item = &Diagnostic> {
        self.0.iter()
    }
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for diagnostic in &self.0 {
            writeln!(f, "{diagnostic}")?;
        }
        match self.0.len() {
            1 => write!(f, "1 mistake in the configuration"),
            count => write!(f, "{count} mistakes in the configuration"),
        }
    }
}

impl Error for Diagnostics {}
