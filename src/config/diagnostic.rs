//! What is wrong with a configuration, all of it at once.

use std::error::Error;
use std::fmt;

use super::location::Location;

/// One thing that a person has to correct.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Diagnostic {
    pub location: Location,
    /// What is wrong and what to do about it, with the dotted key where there is one. Never a secret.
    pub message: String,
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.location, self.message)
    }
}

/// Every mistake of a configuration, at least one, in reading order.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Diagnostics(Vec<Diagnostic>);

impl Diagnostics {
    /// Returns the mistakes in reading order, or `None` when nothing is wrong.
    pub(super) fn collect(mut found: Vec<Diagnostic>) -> Option<Self> {
        found.sort();
        found.dedup();
        (!found.is_empty()).then_some(Self(found))
    }

    pub fn iter(&self) -> impl Iterator<Item = &Diagnostic> {
        self.0.iter()
    }
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for mistake in &self.0 {
            writeln!(f, "{mistake}")?;
        }
        match self.0.len() {
            1 => write!(f, "1 mistake in the configuration"),
            count => write!(f, "{count} mistakes in the configuration"),
        }
    }
}

impl Error for Diagnostics {}
