//! Retryable failures, and the error of a call that was given up.

use std::error::Error;
use std::fmt;
use std::io;
use std::time::Duration;

use cynosure_engine::Failure;

/// Failure that knows whether another attempt may succeed.
pub trait Retryable: fmt::Display {
    /// Returns true if the failure may be transient.
    fn is_retryable(&self) -> bool;

    /// Returns the server's retry-after. No delay before the next attempt is shorter.
    fn retry_after(&self) -> Option<Duration> {
        None
    }
}

/// Only transient failures without a retry-after are retried here; the engine handles all others.
impl Retryable for Failure {
    fn is_retryable(&self) -> bool {
        self.is_transient()
    }

    fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }
}

/// Retryable are interrupted calls, busy resources, timeouts and broken or refused connections.
impl Retryable for io::Error {
    fn is_retryable(&self) -> bool {
        matches!(
            self.kind(),
            io::ErrorKind::Interrupted
                | io::ErrorKind::WouldBlock
                | io::ErrorKind::TimedOut
                | io::ErrorKind::ResourceBusy
                | io::ErrorKind::ConnectionReset
                | io::ErrorKind::ConnectionAborted
                | io::ErrorKind::ConnectionRefused
                | io::ErrorKind::BrokenPipe
        )
    }
}

/// Error of a call that did not succeed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum RetryError<E> {
    /// No attempt was made, because the circuit breaker of this name is open.
    Rejected { breaker: String },
    /// Last failure, number of attempts made, and the reason for no further attempt.
    Failed { failure: E, attempts: u32, reason: StopReason },
}

/// Reason for no further attempt.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum StopReason {
    /// The failure is permanent.
    NotRetryable,
    /// The maximum number of attempts is reached.
    AttemptsExhausted,
    /// The retry budget, which all calls share, is used up.
    BudgetExhausted,
    /// The circuit breaker opened during the call.
    BreakerOpen,
}

impl<E> RetryError<E> {
    /// Returns the last failure. For a rejected call, `on_rejected` creates one from the breaker's
    /// name.
    pub fn into_failure(self, on_rejected: impl FnOnce(&str) -> E) -> E {
        match self {
            Self::Rejected { breaker } => on_rejected(&breaker),
            Self::Failed { failure, .. } => failure,
        }
    }
}

impl<E: fmt::Display> fmt::Display for RetryError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rejected { breaker } => write!(f, "the circuit breaker {breaker} is open"),
            Self::Failed { failure, attempts: 1, .. } => failure.fmt(f),
            Self::Failed { failure, attempts, .. } => write!(f, "{failure} ({attempts} attempts)"),
        }
    }
}

impl<E: Error + 'static> Error for RetryError<E> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Rejected { .. } => None,
            Self::Failed { failure, .. } => Some(failure),
        }
    }
}
