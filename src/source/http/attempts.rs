//! Attempts of one request.

use cynosure_engine::{Cause, Failure};
use tokio::time::Instant;

use crate::limiter::AttemptKind;

/// Number of attempts of a request, and the time of its first failure.
#[derive(Debug, Default)]
pub struct AttemptTracker {
    attempts: u32,
    last_sent_at: Option<Instant>,
    failing_since: Option<Instant>,
}

impl AttemptTracker {
    /// Counts an attempt that is sent now, and returns its kind; that of the first attempt is
    /// `first`.
    pub fn start_attempt(&mut self, first: AttemptKind) -> AttemptKind {
        self.attempts += 1;
        self.last_sent_at = Some(Instant::now());
        if self.attempts == 1 { first } else { AttemptKind::Retry }
    }

    /// Records that the last attempt failed. The failing time of a timeout starts when the attempt
    /// was sent.
    pub fn record_failure(&mut self, failure: &Failure) {
        let sent_at = if failure.cause == Cause::Timeout { self.last_sent_at } else { None };
        self.failing_since.get_or_insert_with(|| sent_at.unwrap_or_else(Instant::now));
    }

    #[must_use]
    pub fn attempts(&self) -> u32 {
        self.attempts
    }

    /// Adds the number of attempts and the time since the first failure to the last failure.
    #[must_use]
    pub fn annotate(&self, failure: Failure) -> Failure {
        let failing_for = self.failing_since.map(|since| since.elapsed()).unwrap_or_default();
        let failing_millis = u32::try_from(failing_for.as_millis()).unwrap_or(u32::MAX);
        Failure { request_count: self.attempts, failing_millis, ..failure }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::advance;

    use super::*;

    /// Returns the failure after these causes in turn. Each request takes a second, each delay
    /// before the next ten, and a minute has passed since the last.
    async fn failure_after(causes: &[Cause]) -> Failure {
        let mut tracker = AttemptTracker::default();
        for cause in causes {
            if tracker.attempts() > 0 {
                advance(Duration::from_secs(10)).await;
            }
            tracker.start_attempt(AttemptKind::First);
            advance(Duration::from_secs(1)).await;
            tracker.record_failure(&Failure::new(*cause, "x"));
        }
        advance(Duration::from_secs(60)).await;
        tracker.annotate(Failure::new(Cause::Unknown, "the last"))
    }

    #[test]
    fn only_the_first_attempt_is_not_a_retry() {
        let mut tracker = AttemptTracker::default();

        let attempts = [1, 2, 3].map(|_| tracker.start_attempt(AttemptKind::Suspect));

        assert_eq!(attempts, [AttemptKind::Suspect, AttemptKind::Retry, AttemptKind::Retry]);
        assert_eq!(tracker.attempts(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn failing_time_starts_at_the_first_failure() {
        use Cause::{Connection, Server, Timeout, Truncated};
        for (causes, seconds) in
            [(&[Server][..], 60), (&[Server, Truncated], 71), (&[Server, Timeout, Connection], 82)]
        {
            let failure = failure_after(causes).await;

            let expected = (causes.len(), Duration::from_secs(seconds));
            assert_eq!(
                (failure.request_count as usize, failure.failing_duration()),
                expected,
                "{causes:?}"
            );
        }
    }

    #[tokio::test(start_paused = true)]
    async fn failing_time_of_a_timeout_starts_when_it_was_sent() {
        use Cause::{Server, Timeout};
        for (causes, seconds) in
            [(&[Timeout][..], 61), (&[Timeout, Server], 72), (&[Timeout, Timeout, Timeout], 83)]
        {
            let failure = failure_after(causes).await;

            assert_eq!(failure.failing_duration(), Duration::from_secs(seconds), "{causes:?}");
        }
    }
}
