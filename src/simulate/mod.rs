//! Rehearses a policy against a made-up server, in virtual time.
//!
//! Pure and seeded: the same trial always ends the same way.

mod client;
mod errors;
mod limiter;
mod scenario;
mod trace;

use std::time::Duration;

use crate::engine::rate_limit::{Rate, RateLimitPolicy};

pub use self::client::run;
pub use self::errors::ScenarioFileError;
pub use self::limiter::{
    HeaderMode, LimitAlgorithm, LimitDecision, LockoutExtension, ResetSemantics, ServerLimiter,
};
pub use self::scenario::{Scenario, StopCondition, builtin_scenarios, find_builtin};
pub use self::trace::{InferredScenario, ResponseClass, TRACE_BYTES_MAX, Trace, TraceRecord};

/// A client, a server, and how long they have.
#[derive(Clone, Debug, PartialEq)]
pub struct Simulation {
    pub server: SimulatedServer,
    pub strategy: SendStrategy,
    /// Requests in flight at most.
    pub workers: u32,
    /// Units that each request costs.
    pub weight: u32,
    pub duration: Duration,
    /// Requests after whose acceptance the client is done; none: it goes on to the end.
    pub request_goal: Option<u64>,
    pub seed: u64,
    /// How much time each sample of the result covers.
    pub sample_interval: Duration,
}

/// A made-up server.
#[derive(Clone, Debug, PartialEq)]
pub struct SimulatedServer {
    pub algorithm: LimitAlgorithm,
    pub header_mode: HeaderMode,
    pub reset_semantics: ResetSemantics,
    pub latency: LatencyModel,
    /// Another client that draws on the same quota.
    pub competing_client: Option<CompetingClient>,
    pub outages: Vec<SimulatedOutage>,
}

/// The time from a request to its reply: at least `base`, with a long tail.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LatencyModel {
    pub base: Duration,
    /// The mean of what comes on top, exponentially distributed.
    pub mean_tail: Duration,
}

/// Another client. Its requests come at random; it works and rests by turns.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CompetingClient {
    /// While it works.
    pub rate: Rate,
    pub active_for: Duration,
    /// Zero: it never rests.
    pub idle_for: Duration,
}

/// A time in which every request fails, counted from the start.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SimulatedOutage {
    pub start: Duration,
    pub duration: Duration,
}

/// How the client decides when to send.
#[derive(Clone, Debug, PartialEq)]
pub enum SendStrategy {
    /// By the quota, in any of its modes.
    RateLimiter(RateLimitPolicy),
    /// Each worker on its own: at once, and after each 429 a delay that doubles, with full jitter.
    Backoff { initial_delay: Duration, max_delay: Duration },
}

/// What came of a trial.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SimulationResult {
    /// Units accepted.
    pub accepted: u64,
    /// Requests answered with "too many".
    pub throttled: u64,
    /// Requests that failed otherwise.
    pub failed: u64,
    /// Requests sent while the server was down.
    pub requests_during_outage: u64,
    /// Units that the other client got.
    pub competing_units: u64,
    /// Units accepted, of those the server granted in the long run and the other client left.
    /// Who begins or ends in the middle of a window gets more than its share of it: up to one window above 1.
    pub utilization: f64,
    /// Until the work was done, or the time was over.
    pub duration: Duration,
    pub is_finished: bool,
    pub samples: Vec<SimulationSample>,
}

/// What happened in one span of a trial, by the time of the reply.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct SimulationSample {
    /// When the span began, from the start of the trial.
    pub start: Duration,
    /// Units.
    pub accepted: u64,
    /// Requests.
    pub throttled: u64,
    pub failed: u64,
}

#[cfg(test)]
mod acceptance_tests;
