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
        Failure { request_count: self.sent, failing_millis, ..failure }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::advance;

    use super::*;

    /// Fails with these causes, one after the other: each request takes a second, each pause before
    /// the next ten, and a minute has passed since the last.
    async fn failed(causes: &[Cause]) -> Failure {
        let mut tries = Tries::default();
        for cause in causes {
            if tries.sent() > 0 {
                advance(Duration::from_secs(10)).await;
            }
            tries.next(Attempt::First);
            advance(Duration::from_secs(1)).await;
            tries.failed(&Failure::new(*cause, "x"));
        }
        advance(Duration::from_secs(60)).await;
        tries.note_in(Failure::new(Cause::Unknown, "the last"))
    }

    #[test]
    fn only_the_first_request_goes_out_as_that() {
        let mut tries = Tries::default();

        let attempts = [1, 2, 3].map(|_| tries.next(Attempt::Suspect));

        assert_eq!(attempts, [Attempt::Suspect, Attempt::Again, Attempt::Again]);
        assert_eq!(tries.sent(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_fails_from_its_first_failure_on() {
        use Cause::{Connection, Server, Timeout, Truncated};
        for (causes, seconds) in
            [(&[Server][..], 60), (&[Server, Truncated], 71), (&[Server, Timeout, Connection], 82)]
        {
            let failure = failed(causes).await;

            let expected = (causes.len(), Duration::from_secs(seconds));
            assert_eq!(
                (failure.request_count as usize, failure.failing_duration()),
                expected,
                "{causes:?}"
            );
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_is_never_answered_fails_from_its_start_on() {
        use Cause::{Server, Timeout};
        for (causes, seconds) in
            [(&[Timeout][..], 61), (&[Timeout, Server], 72), (&[Timeout, Timeout, Timeout], 83)]
        {
            let failure = failed(causes).await;

            assert_eq!(failure.failing_duration(), Duration::from_secs(seconds), "{causes:?}");
        }
    }
}
