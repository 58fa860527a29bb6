//! Retries of async and blocking calls that failed with a transient error.
//!
//! A [`RetryPolicy`] has a name and a [`BackoffConfig`] (number of attempts and their delays). A
//! [`CircuitBreaker`], a retry [`Budget`] and a [`RetryRegistry`] for statistics are optional. A
//! policy is cheap to clone and holds no state of a single call.
//!
//! ```
//! use std::io;
//! use cynosure::retry::{BackoffConfig, RetryPolicy};
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() {
//! let policy = RetryPolicy::new("request", BackoffConfig::FAST);
//! let mut calls = 0;
//! let result = policy
//!     .run(async || {
//!         calls += 1;
//!         if calls < 3 { Err(io::Error::from(io::ErrorKind::TimedOut)) } else { Ok("data") }
//!     })
//!     .await;
//!
//! assert_eq!(result.unwrap(), "data");
//! assert_eq!(policy.statistics().retries, 2);
//! # }
//! ```
//!
//! The failure itself says through [`Retryable`] whether another attempt may succeed. A call can
//! decide this itself with [`RetryPolicy::when`], which only requires that the failure implements
//! `Display`. A call can also observe its retries:
//!
//! ```
//! use std::time::Duration;
//! use cynosure::retry::{BackoffConfig, Jitter, RetryPolicy};
//!
//! let backoff = BackoffConfig {
//!     max_attempts: 4,
//!     base_delay: Duration::from_millis(1),
//!     max_delay: Duration::from_millis(3),
//!     multiplier: 2.0,
//!     backoff_factor: 1.0,
//!     jitter: Jitter::None,
//! };
//! let mut delays = Vec::new();
//! let outcome: Result<(), _> = RetryPolicy::new("files", backoff)
//!     .when(|failure: &String| failure != "gone")
//!     .on_retry(|retry| delays.push((retry.attempt, retry.delay.as_millis())))
//!     .run_blocking(|| Err("busy".to_owned()));
//!
//! assert_eq!(outcome.unwrap_err().to_string(), "busy (4 attempts)");
//! assert_eq!(delays, [(1, 1), (2, 2), (3, 3)]);
//! ```
//!
//! A [`Timer`] provides the delays and the random samples: real ones by default, simulated ones in
//! tests. The policies of the program and their settings are in `config.toml` under `[retry]`.

mod backoff;
mod error;
mod execution;
mod hooks;
mod policy;
mod statistics;
mod timer;

pub use self::backoff::{BackoffConfig, Jitter};
pub use self::error::{RetryError, Retryable, StopReason};
pub use self::execution::{RetryBuilder, RetryEvent};
pub use self::hooks::{Budget, CircuitBreaker};
pub use self::policy::RetryPolicy;
pub use self::statistics::{RetryRegistry, RetryStatistics};
pub use self::timer::{RealTimer, Timer};

#[cfg(test)]
mod tests;
