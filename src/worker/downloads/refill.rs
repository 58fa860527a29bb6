//! When the ledger is asked for more, and what there is to do when it has none.

use crate::engine::Timestamp;

/// When the ledger is asked for more.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum RefillState {
    Now,
    Running,
    /// All that is due has been taken; the next item is due then.
    At(Timestamp),
    /// Nothing is left but what is busy.
    Exhausted,
}

/// Why nothing is in flight.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::worker) enum IdleReason {
    AllSettled,
    /// Every unsettled item waits for its own retry.
    AwaitingRetry(Timestamp),
}
