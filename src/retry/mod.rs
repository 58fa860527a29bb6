//! Tries again what may be gone in a moment: for async and for blocking calls.
//!
//! A [`Policy`] has a name, a [`Shape`] (how often, and how long the waits are), and what it
//! was given besides: a breaker that may forbid an attempt, a budget that may forbid a retry,
//! a place to count. It is cheap to clone and holds no state of a call.
//!
//! ```
//! use std::io;
//! use cynosure::retry::{Policy, Shape};
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() {
//! let policy = Policy::new("request", Shape::FAST);
//! let mut asked = 0;
//! let answer = policy
//!     .run(async || {
//!         asked += 1;
//!         if asked < 3 { Err(io::Error::from(io::ErrorKind::TimedOut)) } else { Ok("data") }
//!     })
//!     .await;
//!
//! assert_eq!(answer.unwrap(), "data");
//! assert_eq!(policy.statistics().retries, 2);
//! # }
//! ```
//!
//! What is worth another attempt is told by the failure itself, by [`Fault`]. A call may judge
//! for itself with [`Policy::when`], which needs nothing of the failure but that it can be
//! shown, and watch its retries:
//!
//! ```
//! use std::time::Duration;
//! use cynosure::retry::{Jitter, Policy, Shape};
//!
//! let shape = Shape {
//!     max_attempts: 4,
//!     base_delay: Duration::from_millis(1),
//!     max_delay: Duration::from_millis(3),
//!     multiplier: 2.0,
//!     backoff_factor: 1.0,
//!     jitter: Jitter::None,
//! };
//! let mut delays = Vec::new();
//! let outcome: Result<(), _> = Policy::new("files", shape)
//!     .when(|failure: &String| failure != "gone")
//!     .on_retry(|retry| delays.push((retry.attempt, retry.delay.as_millis())))
//!     .run_blocking(|| Err("busy".to_owned()));
//!
//! assert_eq!(outcome.unwrap_err().to_string(), "busy (4 attempts)");
//! assert_eq!(delays, [(1, 1), (2, 2), (3, 3)]);
//! ```
//!
//! Where the waiting is done, and where chance comes from, is a [`Timer`]: real by default,
//! made up in tests. The names of the program's own policies, and their settings, are in
//! `config.toml` under `[retry]`.

mod backoff;
mod error;
mod execution;
mod hooks;
mod policy;
mod statistics;
mod timer;

pub use self::backoff::{BackoffConfig, Jitter};
pub use self::error::{RetryError, Retryable, StopReason};
pub use self::hooks::{Budget, CircuitBreaker};
pub use self::policy::{RetryBuilder, RetryEvent, RetryPolicy};
pub use self::statistics::{RetryRegistry, RetryStatistics};
pub use self::timer::{RealTimer, Timer};

#[cfg(test)]
mod tests;
