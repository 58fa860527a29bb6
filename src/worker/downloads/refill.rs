//! State of the refill from the ledger, and the reason why no task is in flight.

use cynosure_engine::Timestamp;

/// Time of the next refill from the ledger.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum RefillState {
    Now,
    Running,
    /// All due items are loaded; the next item is due at this time.
    At(Timestamp),
    /// The ledger has no items except those that are busy.
    Exhausted,
}

/// Reason why nothing is in flight.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::worker) enum IdleReason {
    AllSettled,
    /// Every unsettled item waits for its own retry, the first until this time.
    AwaitingRetry(Timestamp),
}
