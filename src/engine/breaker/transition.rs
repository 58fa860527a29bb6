//! The states of a breaker, and the news that it went from one to another.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::engine::Timestamp;

/// The three words a person sees.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum BreakerState {
    /// Calls go through.
    Closed,
    /// Nothing goes through.
    Open,
    /// One call at a time may show that all is well again.
    HalfOpen,
}

/// How much it matters to a person.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    Info,
    Warning,
    Critical,
}

/// A breaker went from one state to another.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct BreakerTransition {
    /// Whose breaker it is.
    pub breaker: String,
    /// The later of two has the higher number.
    pub generation: u64,
    pub from: BreakerState,
    pub to: BreakerState,
    pub severity: Severity,
    pub at: Timestamp,
    /// One line for a person.
    pub reason: String,
}

impl BreakerState {
    pub const ALL: [Self; 3] = [Self::Closed, Self::Open, Self::HalfOpen];

    /// The word for it in the file, logs and commands.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half_open",
        }
    }

    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|phase| phase.name() == name)
    }

    /// How much the arrival in this state matters.
    #[must_use]
    pub fn severity(self) -> Severity {
        match self {
            Self::Closed => Severity::Info,
            Self::Open => Severity::Critical,
            Self::HalfOpen => Severity::Warning,
        }
    }
}

impl Severity {
    /// The word for it in logs and alerts.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
}

impl fmt::Display for BreakerState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
