//! Phases of the rate estimator.

use crate::Timestamp;
use crate::rate_limit::rate::Rate;

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum EstimatorPhase {
    /// Headers give the rate, and no throttle has shown them to be incomplete.
    Inactive,
    SlowStart {
        rate: Rate,
        successes: u32,
    },
    Steady {
        since: Timestamp,
        units: f64,
    },
    Probing {
        rate: Rate,
        since: Timestamp,
        units: f64,
    },
}

impl EstimatorPhase {
    pub(super) fn map_times(&mut self, shift: impl Fn(Timestamp) -> Timestamp) {
        match self {
            Self::Inactive | Self::SlowStart { .. } => {}
            Self::Steady { since, .. } | Self::Probing { since, .. } => *since = shift(*since),
        }
    }
}
