//! What a failure says about itself, and how a call is given up.

use std::error::Error;
use std::fmt;
use std::io;
use std::time::Duration;

use crate::engine::Failure;

/// A failure that knows whether another attempt may help.
pub trait Retryable: fmt::Display {
    /// Whether it may be gone in a moment.
    fn is_retryable(&self) -> bool;

    /// How long the other side told us to stay away: no wait is shorter.
    fn retry_after(&self) -> Option<Duration> {
        None
    }
}

/// A server that names a time, or refuses, is left to the engine.
impl Retryable for Failure {
    fn is_retryable(&self) -> bool {
        self.is_transient()
    }

    fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }
}

/// What is interrupted, in use or late may be free the next time.
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

/// A call that did not succeed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum RetryError<E> {
    /// Not one attempt was made: the breaker of this name is open.
    Rejected { breaker: String },
    /// The last failure, after so many attempts, and why there was no other.
    Failed { failure: E, attempts: u32, reason: StopReason },
}

/// Why no further attempt was made.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum StopReason {
    /// Another attempt would not help.
    NotRetryable,
    /// All attempts are used up.
    AttemptsExhausted,
    /// Too many retries went out already, of whatever call.
    BudgetExhausted,
    /// The breaker opened meanwhile.
    BreakerOpen,
}

impl<E> RetryError<E> {
    /// Returns the last failure; `refused` makes one of the name of an open breaker.
    pub fn into_failure(self, refused: impl FnOnce(&str) -> E) -> E {
        match self {
            Self::Rejected { breaker: guard } => refused(&guard),
            Self::Failed { failure, .. } => failure,
        }
    }
}

impl<E: fmt::Display> fmt::Display for RetryError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rejected { breaker: guard } => write!(f, "the breaker {guard} is open"),
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
