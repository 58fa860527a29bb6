//! Events: the input of the state machine.

use crate::{Failure, RandomSample, RequestScope, Timestamp};

/// Event that the worker reports to the machine.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Event {
    /// The worker has started, for the first time or after a restart.
    Started,
    /// The user requests a run now, which ends a wait that the server did not ask for.
    RunRequested,
    /// A deadline has passed.
    DeadlineReached,
    /// The last full listing is so old that another one is due.
    ReconcileDue,
    /// The poll found changes at the source.
    ChangesFound,
    /// The poll found no changes at the source.
    NoChanges,
    /// Durable progress was made: a page listed, an item settled.
    ProgressMade,
    /// Attempts for items failed, and this is recorded durably, so that fewer are left.
    AttemptsFailed,
    /// Only items that failed before are left in the session.
    OnlyRetriesLeft,
    /// The user requests one session: the source is polled before the already open session ends.
    PollRequested,
    /// The listing is complete.
    ListingCompleted,
    /// Every listed item is settled.
    AllItemsSettled,
    /// All work waits until this time: items for their retry, or a request for the rate limiter.
    IdleUntil { until: Timestamp },
    /// The listing or the session failed.
    Failed { scope: RequestScope, failure: Failure, sample: RandomSample },
    /// A credential other than the refused one is available.
    CredentialChanged,
    /// The reloaded credential is the one that was refused.
    CredentialUnchanged,
    /// A circuit breaker rejects all requests until this time.
    CircuitOpen { until: Timestamp, reason: String },
    /// The circuit breaker that was waited for is closed again.
    CircuitClosed,
}

/// Scope of the listing in a session.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SyncScope {
    /// Changes since the last session; everything, if there was none.
    Incremental,
    /// Everything once more, to find differences that the changes did not report.
    Reconcile,
    /// Everything, since the source no longer accepts the cursor.
    FullResync,
}
