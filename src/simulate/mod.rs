//! Rehearses a policy against a made-up server, in virtual time.
//!
//! Pure and seeded: the same trial always ends the same way.

mod client;
mod limiter;
mod mistakes;
mod scenario;
mod trace;

use std::time::Duration;

use crate::engine::rate_limit::{Rate, RateLimitPolicy};

pub use self::client::run;
pub use self::limiter::{Limiter, Renewal, Restart, Ruling, Shape, Speech};
pub use self::mistakes::FileError;
pub use self::scenario::{Bound, Scenario, find, shipped};
pub use self::trace::{Answer, Served, TRACE_BYTES_MAX, Trace, Traced};

/// A client, a server, and how long they have.
#[derive(Clone, Debug, PartialEq)]
pub struct Trial {
    pub server: Server,
    pub strategy: Strategy,
    /// Requests in flight at most.
    pub workers: u32,
    /// Units that each request costs.
    pub weight: u32,
    pub lasts: Duration,
    /// Requests after whose acceptance the client is done; none: it goes on to the end.
    pub work: Option<u64>,
    pub seed: u64,
    /// How much time each sample of the result covers.
    pub sample: Duration,
}

/// A made-up server.
#[derive(Clone, Debug, PartialEq)]
pub struct Server {
    pub shape: Shape,
    pub speech: Speech,
    pub renewal: Renewal,
    pub latency: Latency,
    /// Another client that draws on the same quota.
    pub neighbour: Option<Neighbour>,
    pub outages: Vec<Outage>,
}

/// The time from a request to its reply: at least `base`, with a long tail.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Latency {
    pub base: Duration,
    /// The mean of what comes on top, exponentially distributed.
    pub spread: Duration,
}

/// Another client. Its requests come at random; it works and rests by turns.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Neighbour {
    /// While it works.
    pub rate: Rate,
    pub works: Duration,
    /// Zero: it never rests.
    pub rests: Duration,
}

/// A time in which every request fails, counted from the start.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Outage {
    pub from: Duration,
    pub lasts: Duration,
}

/// How the client decides when to send.
#[derive(Clone, Debug, PartialEq)]
pub enum Strategy {
    /// By the quota, in any of its modes.
    Quota(RateLimitPolicy),
    /// Each worker on its own: at once, and after each 429 a delay that doubles, with full jitter.
    Backoff { first: Duration, longest: Duration },
}

/// What came of a trial.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outcome {
    /// Units accepted.
    pub accepted: u64,
    /// Requests answered with "too many".
    pub throttled: u64,
    /// Requests that failed otherwise.
    pub failed: u64,
    /// Requests sent while the server was down.
    pub during_outage: u64,
    /// Units that the other client got.
    pub neighbour: u64,
    /// Units accepted, of those the server granted in the long run and the other client left.
    /// Who begins or ends in the middle of a window gets more than its share of it: up to one window above 1.
    pub share: f64,
    /// Until the work was done, or the time was over.
    pub took: Duration,
    pub is_finished: bool,
    pub samples: Vec<Sample>,
}

/// What happened in one span of a trial, by the time of the reply.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Sample {
    /// When the span began, from the start of the trial.
    pub from: Duration,
    /// Units.
    pub accepted: u64,
    /// Requests.
    pub throttled: u64,
    pub failed: u64,
}

#[cfg(test)]
mod bar;
