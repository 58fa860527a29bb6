//! Scenario files: a server with its limits and its bad hours, and a mailbox to be had from it.
//!
//! `docs/simulate.md` describes every key.

mod builtin;
mod fields;
mod read;
#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::config::parse;
use crate::simulate::{ScenarioFileError, SimulatedServer};

pub use self::builtin::{builtin_scenarios, find_builtin};

/// What is rehearsed.
#[derive(Clone, Debug, PartialEq)]
pub struct Scenario {
    /// One line for the list.
    pub description: String,
    /// Its outages are in the order of their beginnings, and do not overlap.
    pub server: SimulatedServer,
    /// Requests that the client sends side by side at most.
    pub workers: u32,
    /// Units of the quota that each request costs.
    pub weight: u32,
    pub stop_condition: StopCondition,
}

/// When the rehearsal ends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum StopCondition {
    /// When so many requests are answered well: the mailbox.
    Requests(u64),
    /// After that time, whatever is done by then.
    Elapsed(Duration),
}

impl Scenario {
    /// Reads a scenario file's text; `file` is what a mistake in it is placed in.
    ///
    /// # Errors
    /// Every mistake, at once.
    pub fn parse(file: &Path, text: &str) -> Result<Self, ScenarioFileError> {
        let file: Arc<Path> = Arc::from(file);
        let mut mistakes = Vec::new();
        let table = parse(&file, text, &mut mistakes);
        if !mistakes.is_empty() {
            // What else is wrong would only follow from it.
            return Err(ScenarioFileError::new("scenario", mistakes));
        }
        match read::read_scenario(&file, table, &mut mistakes) {
            Some(scenario) if mistakes.is_empty() => Ok(scenario),
            Some(_) | None => Err(ScenarioFileError::new("scenario", mistakes)),
        }
    }

    /// The most requests that can come through: the mailbox, or what the limit and the latency allow.
    #[must_use]
    pub fn max_requests(&self) -> u64 {
        let lasts = match self.stop_condition {
            StopCondition::Requests(requests) => return requests,
            StopCondition::Elapsed(lasts) => lasts,
        };
        let granted = self.server.algorithm.granted_rate().get() / f64::from(self.weight);
        let asked = f64::from(self.workers) / self.server.latency.base.as_secs_f64();
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "the cast saturates, which is as many as can be"
        )]
        let most = (granted.min(asked) * lasts.as_secs_f64()) as u64;
        most
    }

    /// The time in which the quota grants so many requests, outages included.
    #[must_use]
    pub fn min_duration(&self, requests: u64) -> Duration {
        let units = u128::from(requests) * u128::from(self.weight);
        #[expect(clippy::cast_precision_loss, reason = "shown to the second")]
        let seconds = units as f64 / self.server.algorithm.granted_rate().get();
        let granted = Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX);
        self.server.outages.iter().fold(granted, |whole, outage| {
            if outage.start < whole { whole.saturating_add(outage.duration) } else { whole }
        })
    }
}
