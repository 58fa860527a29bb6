//! States of a breaker, and transitions between them.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::Timestamp;

/// Recorded transitions, for readers such as the monitor that read the state only occasionally.
pub(super) const TRANSITIONS_MAX: usize = 16;

/// Characters kept of a reason, because one size-limited file holds all breakers.
const REASON_CHARS_MAX: usize = 160;

/// Reasons of manual commands.
pub(super) const OPENED_MANUALLY: &str = "opened by hand";
pub(super) const CLOSED_MANUALLY: &str = "closed by hand";
pub(super) const RESET_MANUALLY: &str = "reset by hand";

/// State of a breaker, as displayed.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum BreakerState {
    /// All calls are admitted.
    Closed,
    /// No call is admitted.
    Open,
    /// One probe at a time is admitted.
    HalfOpen,
}

/// Severity of a transition or an alert.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    Info,
    Warning,
    Critical,
}

/// Transition of a breaker from one state to another.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct BreakerTransition {
    /// Name of the breaker.
    pub breaker: String,
    /// Generation after the transition; later transitions have higher numbers.
    pub generation: u64,
    pub from: BreakerState,
    pub to: BreakerState,
    pub severity: Severity,
    pub at: Timestamp,
    /// One line, for display.
    pub reason: String,
}

/// Returns true if `reason` is that of a manual command.
#[must_use]
pub fn is_manual(reason: &str) -> bool {
    [OPENED_MANUALLY, CLOSED_MANUALLY, RESET_MANUALLY].contains(&reason)
}

impl BreakerState {
    pub const ALL: [Self; 3] = [Self::Closed, Self::Open, Self::HalfOpen];

    /// Returns the name in the file, logs and commands.
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
        Self::ALL.into_iter().find(|state| state.name() == name)
    }

    /// Returns true if a breaker in this state is in an open period. `was_in_open_period` refers to
    /// the state before: a half-open breaker is in one only if it has been open.
    pub(crate) fn is_in_open_period(self, was_in_open_period: bool) -> bool {
        match self {
            Self::Closed => false,
            Self::Open => true,
            Self::HalfOpen => was_in_open_period,
        }
    }

    /// Returns the severity of a transition to this state.
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
    /// Returns the name in logs and alerts.
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

/// Appends a transition. At the limit, transitions that neither begin nor end an open period are
/// removed first, so that the recorded periods are complete.
pub(super) fn push_transition(
    transitions: &mut Vec<BreakerTransition>,
    newest: &BreakerTransition,
) {
    while transitions.len() >= TRANSITIONS_MAX {
        let mut is_in_open_period = false;
        let unneeded = transitions.iter().position(|transition| {
            let was_in_open_period = is_in_open_period;
            is_in_open_period = transition.to.is_in_open_period(was_in_open_period);
            is_in_open_period == was_in_open_period
        });
        transitions.remove(unneeded.unwrap_or_default());
    }
    let reason = newest.reason.chars().take(REASON_CHARS_MAX).collect();
    transitions.push(BreakerTransition { reason, ..newest.clone() });
}
