//! Scenario files: a server with its limits and its bad hours, and a mailbox to be had from it.
//!
//! `docs/simulate.md` describes every key.

mod fields;
mod read;
mod shipped;
#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::config::parse;
use crate::simulate::{FileError, Server};

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
    pub fn parse(file: &Path, text: &str) -> Result<Self, FileError> {
        let file: Arc<Path> = Arc::from(file);
        let mut mistakes = Vec::new();
        let table = parse(&file, text, &mut mistakes);
        if !mistakes.is_empty() {
            // What else is wrong would only follow from it.
            return Err(FileError::new("scenario", mistakes));
        }
        match read::scenario(&file, table, &mut mistakes) {
            Some(scenario) if mistakes.is_empty() => Ok(scenario),
            Some(_) | None => Err(FileError::new("scenario", mistakes)),
        }
    }

    /// The most requests that can come through: the mailbox, or what the limit and the latency allow.
    #[must_use]
    pub fn most_requests(&self) -> u64 {
        let lasts = match self.until {
            Bound::Requests(requests) => return requests,
            Bound::Lasting(lasts) => lasts,
        };
        let granted = self.server.shape.grants().get() / f64::from(self.weight);
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
