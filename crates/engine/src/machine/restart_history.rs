//! Restarts of the worker, and their causes.

use crate::Timestamp;

/// Cause of a restart of the worker.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum RestartCause {
    Completed,
    Errors,
    Authentication,
    Stuck,
    ExecutionTime,
}

/// Last restart of the worker that was requested, by itself or from outside.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct LastRestart {
    pub cause: RestartCause,
    pub at: Timestamp,
}

/// Restarts of the worker since the ledger was created.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct RestartHistory {
    pub count: u32,
    pub last: Option<LastRestart>,
}

impl RestartHistory {
    pub(super) fn record(&mut self, cause: RestartCause, now: Timestamp) {
        self.count = self.count.saturating_add(1);
        self.last = Some(LastRestart { cause, at: now });
    }

    /// Records a restart that was requested from outside at `at` for lack of progress. A restart
    /// that is recorded already is not counted again.
    pub fn record_external(&mut self, at: Timestamp) {
        if self.last.is_none_or(|last| last.at < at) {
            self.record(RestartCause::Stuck, at);
        }
    }
}

impl RestartCause {
    const ALL: [Self; 5] =
        [Self::Completed, Self::Errors, Self::Authentication, Self::Stuck, Self::ExecutionTime];

    /// Returns the name in the state file.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::Errors => "errors",
            Self::Authentication => "authentication",
            Self::Stuck => "stuck",
            Self::ExecutionTime => "execution_time",
        }
    }

    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|cause| cause.name() == name)
    }

    /// Returns the reason as text for people.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Self::Completed => "the session is completed",
            Self::Errors => "restarting after too many errors",
            Self::Authentication => "restarting with the reloaded credential",
            Self::Stuck => "restarting after a time without progress",
            Self::ExecutionTime => "restarting after the maximum execution time",
        }
    }
}
