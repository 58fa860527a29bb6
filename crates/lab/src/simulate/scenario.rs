//! Scenario: a simulated server with its limit and outages, and the requests to send to it.

use std::time::Duration;

use crate::simulate::SimulatedServer;

/// Scenario of a simulation: a server and a workload.
#[derive(Clone, Debug, PartialEq)]
pub struct Scenario {
    /// One line for the list of scenarios.
    pub description: String,
    /// Its outages are sorted by start and do not overlap.
    pub server: SimulatedServer,
    /// Maximum number of requests in flight.
    pub workers: u32,
    /// Units of the quota that each request costs.
    pub weight: u32,
    pub stop_condition: StopCondition,
}

/// Condition at which the simulation ends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum StopCondition {
    /// This many accepted requests, which is the size of the mailbox.
    Requests(u64),
    /// This time, with any number of requests.
    Elapsed(Duration),
}

impl Scenario {
    /// Returns the maximum number of accepted requests: the size of the mailbox, or the number that
    /// the limit and the latency allow.
    #[must_use]
    pub fn max_requests(&self) -> u64 {
        let duration = match self.stop_condition {
            StopCondition::Requests(requests) => return requests,
            StopCondition::Elapsed(duration) => duration,
        };
        let granted = self.server.algorithm.granted_rate().get() / f64::from(self.weight);
        let sendable = f64::from(self.workers) / self.server.latency.base.as_secs_f64();
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "the cast saturates, and the value is an upper bound"
        )]
        let requests = (granted.min(sendable) * duration.as_secs_f64()) as u64;
        requests
    }

    /// Returns the minimum time in which the quota grants `requests` requests, including outages.
    #[must_use]
    pub fn min_duration(&self, requests: u64) -> Duration {
        let units = u128::from(requests) * u128::from(self.weight);
        #[expect(clippy::cast_precision_loss, reason = "shown to the second")]
        let seconds = units as f64 / self.server.algorithm.granted_rate().get();
        let granted = Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX);
        self.server.outages.iter().fold(granted, |total, outage| {
            if outage.start < total { total.saturating_add(outage.duration) } else { total }
        })
    }
}
