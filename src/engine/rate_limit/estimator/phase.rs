//! How far the learner has come.

use crate::engine::Timestamp;
use crate::engine::rate_limit::Rate;

#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::engine::rate_limit) enum EstimatorPhase {
    /// The server speaks for itself, and was not found to hide anything.
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
    pub(super) fn map_times(&mut self, shifted: impl Fn(Timestamp) -> Timestamp) {
        match self {
            Self::Inactive | Self::SlowStart { .. } => {}
            Self::Steady { since, .. } | Self::Probing { since, .. } => *since = shifted(*since),
        }
    }
}
