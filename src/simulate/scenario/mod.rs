//! Scenario files: a server with its limits and its bad hours, and a mailbox to be had from it.
//!
//! `docs/simulate.md` describes every key.

mod fields;
mod read;
mod shipped;
#[cfg(test)]
mod tests;

use std::error::Error;
use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::config::{Mistake, parse};
use crate::simulate::Server;

pub use self::shipped::{find, shipped};

/// What is rehearsed.
#[derive(Clone, Debug, PartialEq)]
pub struct Scenario {
    /// One line for the list.
    pub about: String,
    /// Its outages are in the order of their beginnings, and do not overlap.
    pub server: Server,
    /// Requests that the client sends side by side at most.
    pub workers: u32,
    /// Units of the quota that each request costs.
    pub weight: u32,
    pub until: Bound,
}

/// When the rehearsal ends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Bound {
    /// When so many requests are answered well: the mailbox.
    Requests(u64),
    /// After that time, whatever is done by then.
    Lasting(Duration),
}

impl Scenario {
    /// Reads a scenario file's text; `file` is what a mistake in it is placed in.
    ///
    /// # Errors
    /// Every mistake, at once.
    pub fn parse(file: &Path, text: &str) -> Result<Self, ScenarioError> {
        let file: Arc<Path> = Arc::from(file);
        let mut mistakes = Vec::new();
        let table = parse(&file, text, &mut mistakes);
        if !mistakes.is_empty() {
            // What else is wrong would only follow from it.
            return Err(ScenarioError::of(mistakes));
        }
        match read::scenario(&file, table, &mut mistakes) {
            Some(scenario) if mistakes.is_empty() => Ok(scenario),
            Some(_) | None => Err(ScenarioError::of(mistakes)),
        }
    }

    /// The time in which the quota grants so many requests, outages included.
    #[must_use]
    pub fn shortest(&self, requests: u64) -> Duration {
        let units = u128::from(requests) * u128::from(self.weight);
        #[expect(clippy::cast_precision_loss, reason = "shown to the second")]
        let seconds = units as f64 / self.server.shape.grants().get();
        let granted = Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX);
        self.server.outages.iter().fold(granted, |whole, outage| {
            if outage.from < whole { whole.saturating_add(outage.lasts) } else { whole }
        })
    }
}

/// Every mistake of a scenario file, at least one, in reading order.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ScenarioError(Vec<Mistake>);

impl ScenarioError {
    fn of(mut mistakes: Vec<Mistake>) -> Self {
        mistakes.sort();
        mistakes.dedup();
        Self(mistakes)
    }
}

impl fmt::Display for ScenarioError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for mistake in &self.0 {
            writeln!(f, "{mistake}")?;
        }
        match self.0.len() {
            1 => write!(f, "1 mistake in the scenario"),
            count => write!(f, "{count} mistakes in the scenario"),
        }
    }
}

impl Error for ScenarioError {}
