//! How far the learner has come.

use crate::engine::Timestamp;
use crate::engine::quota::Rate;

#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::engine::quota) enum Stage {
    /// The server speaks for itself, and was not found to hide anything.
    Asleep,
    Slow {
        rate: Rate,
        successes: u32,
    },
    Settled {
        since: Timestamp,
        units: f64,
    },
    Probe {
        rate: Rate,
        since: Timestamp,
        units: f64,
    },
}

impl Stage {
    pub(super) fn shift(&mut self, shifted: impl Fn(Timestamp) -> Timestamp) {
        match self {
            Self::Asleep | Self::Slow { .. } => {}
            Self::Settled { since, .. } | Self::Probe { since, .. } => *since = shifted(*since),
        }
    }
}
