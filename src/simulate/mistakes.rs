//! What is wrong with a file that was to be rehearsed.

use std::error::Error;
use std::fmt;

use crate::config::Diagnostic;

/// More mistakes than this are one mistake made again and again.
const MISTAKES_SHOWN_MAX: usize = 20;

/// Every mistake of a scenario or a trace, at least one, in reading order.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct FileError {
    noun: &'static str,
    mistakes: Vec<Diagnostic>,
}

impl FileError {
    pub(super) fn new(noun: &'static str, mut mistakes: Vec<Diagnostic>) -> Self {
        mistakes.sort();
        mistakes.dedup();
        Self { noun, mistakes }
    }
}

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for mistake in self.mistakes.iter().take(MISTAKES_SHOWN_MAX) {
            writeln!(f, "{mistake}")?;
        }
        let more = self.mistakes.len().saturating_sub(MISTAKES_SHOWN_MAX);
        if more > 0 {
            writeln!(f, "and {more} more of them")?;
        }
        match self.mistakes.len() {
            1 => write!(f, "1 mistake in the {}", self.noun),
            count => write!(f, "{count} mistakes in the {}", self.noun),
        }
    }
}

impl Error for FileError {}
