//! The quick tries of one request.

use tokio::time::Instant;

use crate::engine::{Cause, Failure};
use crate::source::http::Attempt;

/// How often a request was sent, and since when it fails.
#[derive(Debug, Default)]
pub struct Tries {
    sent: u32,
    sent_at: Option<Instant>,
    failing_since: Option<Instant>,
}

impl Tries {
    /// Counts one that is sent now; the first one is `first`.
    pub fn next(&mut self, first: Attempt) -> Attempt {
        self.sent += 1;
        self.sent_at = Some(Instant::now());
        if self.sent == 1 { first } else { Attempt::Again }
    }

    /// Notes that the last one failed.
    pub fn failed(&mut self, failure: &Failure) {
        let began = if failure.cause == Cause::Timeout { self.sent_at } else { None };
        self.failing_since.get_or_insert_with(|| began.unwrap_or_else(Instant::now));
    }

    #[must_use]
    pub fn sent(&self) -> u32 {
        self.sent
    }

    /// Says in the last failure how often it was tried, and since when in vain.
    #[must_use]
    pub fn note_in(&self, failure: Failure) -> Failure {
        let failing_for = self.failing_since.map(|since| since.elapsed()).unwrap_or_default();
        let failing_millis = u32::try_from(failing_for.as_millis()).unwrap_or(u32::MAX);
        Failure { requests: self.sent, failing_millis, ..failure }
    }
}
