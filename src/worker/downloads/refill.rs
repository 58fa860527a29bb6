//! When the ledger is asked for more, and what there is to do when it has none.

use crate::engine::Timestamp;

/// When the ledger is asked for more.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Refill {
    Now,
    Running,
    /// All that is due has been taken; the next item is due then.
    At(Timestamp),
    /// Nothing is left but what is busy.
    Never,
}

/// Why nothing is in flight.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::worker) enum Lull {
    AllSettled,
    /// Every unsettled item waits for its own retry.
    Resting(Timestamp),
}
