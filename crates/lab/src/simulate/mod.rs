//! Simulation of a rate limit policy against a simulated server, in virtual time.
//!
//! Pure and seeded: the same [`Simulation`] always gives the same result.

mod client;
mod errors;
mod limiter;
mod scenario;
mod trace;

use std::time::Duration;

use cynosure_engine::rate_limit::{Rate, RateLimitPolicy};

pub use self::client::run;
pub use self::errors::ScenarioFileError;
pub use self::limiter::{
    HeaderMode, LimitAlgorithm, LimitDecision, LockoutExtension, ResetSemantics, ServerLimiter,
};
pub use self::scenario::{Scenario, StopCondition};
pub use self::trace::{InferredScenario, ResponseClass, TRACE_BYTES_MAX, Trace, TraceRecord};

/// A simulated client and server, and the time they run.
#[derive(Clone, Debug, PartialEq)]
pub struct Simulation {
    pub server: SimulatedServer,
    pub strategy: SendStrategy,
    /// Maximum number of requests in flight.
    pub workers: u32,
    /// Units of the quota that each request costs.
    pub weight: u32,
    pub duration: Duration,
    /// Number of accepted requests after which the client stops. `None`: it runs for the whole
    /// `duration`.
    pub request_goal: Option<u64>,
    pub seed: u64,
    /// Time that each sample of the result covers.
    pub sample_interval: Duration,
}

/// Simulated server: its limit, its headers, its latency and its outages.
#[derive(Clone, Debug, PartialEq)]
pub struct SimulatedServer {
    pub algorithm: LimitAlgorithm,
    pub header_mode: HeaderMode,
    pub reset_semantics: ResetSemantics,
    pub latency: LatencyModel,
    /// Another client that uses the same quota.
    pub competing_client: Option<CompetingClient>,
    pub outages: Vec<SimulatedOutage>,
}

/// Time from a request to its response: at least `base`, with a long tail.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LatencyModel {
    pub base: Duration,
    /// Mean of the exponentially distributed time that is added to `base`.
    pub mean_tail: Duration,
}

/// Another client of the same quota. It sends at random times, and is active and idle in turn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CompetingClient {
    /// Mean rate while it is active.
    pub rate: Rate,
    pub active_for: Duration,
    /// Zero: it is always active.
    pub idle_for: Duration,
}

/// Period in which every request fails. `start` is counted from the start of the simulation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SimulatedOutage {
    pub start: Duration,
    pub duration: Duration,
}

/// Rule by which the client decides when to send.
#[derive(Clone, Debug, PartialEq)]
pub enum SendStrategy {
    /// Rate limiter in any of its modes and a circuit breaker, shared by all workers.
    RateLimiter(RateLimitPolicy),
    /// Each worker alone: at once, and after each 429 a delay that doubles, with full jitter.
    Backoff { initial_delay: Duration, max_delay: Duration },
}

/// Result of a simulation.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SimulationResult {
    /// Accepted units.
    pub accepted: u64,
    /// Requests rejected with 429.
    pub throttled: u64,
    /// Requests that failed for another reason.
    pub failed: u64,
    /// Requests that reached the server during an outage.
    pub requests_during_outage: u64,
    /// Units that the server accepted from the competing client.
    pub competing_units: u64,
    /// Accepted units as a fraction of those that the server grants in the long run, without
    /// outages and the units of the competing client. It can exceed 1 by up to one window, because
    /// a simulation that begins or ends within a window can use that window's whole quota.
    pub utilization: f64,
    /// Time until `request_goal` was reached, or the whole duration.
    pub duration: Duration,
    pub is_finished: bool,
    pub samples: Vec<SimulationSample>,
}

/// Counts of one interval of a simulation, by the time of the response.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct SimulationSample {
    /// Start of the interval, counted from the start of the simulation.
    pub start: Duration,
    /// Accepted units.
    pub accepted: u64,
    /// Requests rejected with 429.
    pub throttled: u64,
    /// Requests that failed for another reason.
    pub failed: u64,
}

#[cfg(test)]
mod tests;
