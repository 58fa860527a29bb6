//! Requests in flight: the permit of a command or a login, and the metrics about it.

use std::time::Duration;

use cynosure_engine::metrics::{CONNECTION_FAILURES_MAX, ReconnectDecision, add_saturating};
use cynosure_engine::rate_limit::{ReportedLimits, ResponseOutcome};
use cynosure_engine::{Cause, Failure, ThrottleStrikes};
use tokio::time::Instant;
use tracing::{debug, warn};

use crate::limiter::{AttemptKind, Permit};
use crate::source::MetricsHandle;

/// Properties of a command that depend on the messages that it fetches.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::source::imap) struct CommandAttempt {
    pub(in crate::source::imap) kind: AttemptKind,
    /// Earlier throttles of a message that is fetched alone, because it failed before; else `None`.
    pub(in crate::source::imap) strikes: Option<ThrottleStrikes>,
}

impl CommandAttempt {
    /// First attempt of a command that fetches no messages.
    pub(in crate::source::imap) const FIRST: Self =
        Self { kind: AttemptKind::First, strikes: None };
}

/// Command or login in flight. Dropped without a result, it counts as cancelled.
#[derive(Debug)]
pub(in crate::source::imap) struct ImapRequest {
    permit: Box<dyn Permit>,
    metrics: MetricsHandle,
    sent_at: Instant,
    /// Time from which the server could answer it: `sent_at`, or the end of the command before it.
    answerable_at: Instant,
    /// Time to the first byte of the response.
    latency: Option<Duration>,
    bytes: u64,
    /// Number of reconnects before the request.
    reconnects_before: u64,
}

impl ImapRequest {
    pub(super) fn new(permit: Box<dyn Permit>, metrics: MetricsHandle) -> Self {
        let reconnects_before = metrics.update(|metrics| metrics.connection.reconnects);
        let sent_at = Instant::now();
        Self {
            permit,
            metrics,
            sent_at,
            answerable_at: sent_at,
            latency: None,
            bytes: 0,
            reconnects_before,
        }
    }

    /// Records that the command before it has ended.
    pub(super) fn record_turn(&mut self, at: Instant) {
        self.answerable_at = self.answerable_at.max(at);
    }

    /// Records the first data of the response. Later data change nothing.
    pub(super) fn record_data(&mut self, at: Instant) {
        if self.latency.is_none() {
            let latency = at.saturating_duration_since(self.answerable_at);
            self.latency = Some(latency);
            self.permit.record_response_start(ReportedLimits::default(), latency);
        }
    }

    /// Records received bytes of messages, also of discarded ones.
    pub(super) fn record_bytes(&mut self, bytes: u64) {
        self.permit.record_bytes(bytes);
        add_saturating(&mut self.bytes, bytes);
    }

    /// Returns the time since it was sent.
    pub(super) fn elapsed(&self) -> Duration {
        self.sent_at.elapsed()
    }

    /// Ends a request that the server has carried out.
    pub(in crate::source::imap) fn succeed(mut self) {
        self.permit.record_outcome(ResponseOutcome::Accepted);
        self.record_result(None);
        self.metrics.update(|metrics| {
            add_saturating(&mut metrics.requests.bytes_received, self.bytes);
        });
    }

    /// Ends a request that the server has refused with a reply.
    #[must_use]
    pub(in crate::source::imap) fn refuse(mut self, failure: Failure) -> Failure {
        match failure.retry_after {
            Some(first_wait) if failure.is_lock_out => self.permit.record_lock_out(first_wait),
            Some(retry_after) => self.permit.record_retry_after(retry_after),
            None => {}
        }
        let blocked_until = self.permit.record_outcome(failure.cause.rate_limit_signal());
        self.record_result(Some(failure.cause));
        failure.with_blocked_until(blocked_until).with_strikes(self.permit.strikes())
    }

    /// Ends a request without a reply. `host` is that of the server, for the log.
    pub(in crate::source::imap) fn abort(mut self, failure: &Failure, host: &str) {
        if is_server_fault(failure.cause) {
            self.permit.record_outcome(ResponseOutcome::Failed);
        }
        if self.latency.is_some() {
            self.record_result(Some(failure.cause));
            return;
        }
        let decision = self
            .metrics
            .update(|metrics| metrics.record_no_response(failure.cause, self.reconnects_before));
        match decision {
            ReconnectDecision::Keep => {}
            ReconnectDecision::Reconnect => warn!(
                host,
                failures = CONNECTION_FAILURES_MAX,
                "closing all connections after consecutive requests without a response"
            ),
            ReconnectDecision::ReconnectAgain => {
                debug!(host, "closing all connections again, still without a response");
            }
        }
    }

    /// Counts the request. A login has no first byte, but ends with its reply.
    fn record_result(&self, cause: Option<Cause>) {
        let latency = self.latency.unwrap_or_else(|| self.elapsed());
        self.metrics.update(|metrics| metrics.record_response(cause, latency));
    }
}

/// True for failures that count for the health of the server, not for its rate limit.
fn is_server_fault(cause: Cause) -> bool {
    matches!(
        cause,
        Cause::Connection | Cause::Timeout | Cause::Truncated | Cause::Server | Cause::Tls
    )
}
