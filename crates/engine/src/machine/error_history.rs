//! Errors of a source and its rate limits, in total and since the last progress.

use crate::{Cause, Failure, Timestamp};

#[derive(Clone, Debug, Eq, PartialEq)]
pub struct LastError {
    pub cause: Cause,
    pub message: String,
    pub at: Timestamp,
}

/// Last error, and the counts that decide about retries and restarts.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ErrorHistory {
    pub last: Option<LastError>,
    /// Session errors in total, since the ledger was created.
    pub total: u32,
    /// Errors since the last progress, across restarts.
    pub consecutive: u32,
    /// Errors since the last progress or restart: the number of the current retry.
    pub retries: u32,
    /// Rate limits since the last progress.
    pub consecutive_rate_limits: u32,
}

impl ErrorHistory {
    /// Records the failure as the last error. This changes no count.
    pub(super) fn record_failure(&mut self, failure: &Failure, now: Timestamp) {
        self.last = Some(LastError { cause: failure.cause, message: failure.to_string(), at: now });
    }

    /// Counts an error of the session, and the retry that follows it.
    pub(super) fn count_retry(&mut self) {
        self.total = self.total.saturating_add(1);
        self.retries = self.retries.saturating_add(1);
    }

    /// Ends the counts of what happened since the last progress.
    pub(super) fn record_progress(&mut self) {
        self.consecutive = 0;
        self.retries = 0;
        self.consecutive_rate_limits = 0;
    }
}
