//! What the machine is told.

use crate::engine::{Failure, RandomSample, RequestScope, Timestamp};

/// A fact about the outside world.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Event {
    /// The worker has started, for the first time or anew.
    Started,
    /// A person asks for it now: a wait that only we chose is over.
    RunRequested,
    /// A deadline has passed.
    DeadlineReached,
    /// Everything was last listed so long ago that it is to be listed once more.
    ReconcileDue,
    /// There is something new at the source.
    ChangesFound,
    /// There is nothing new at the source.
    NoChanges,
    /// Something durable was achieved: a page listed, an item settled.
    ProgressMade,
    /// Attempts for items failed, and that is durable: fewer are left.
    AttemptsFailed,
    /// Nothing is left of the session but items that failed before.
    OnlyRetriesLeft,
    /// A person asks for one session: news is looked for before the one that was open ends.
    PollRequested,
    /// Everything there is has been listed.
    ListingCompleted,
    /// Every listed item is settled.
    AllItemsSettled,
    /// Whatever is to be done next waits until then: items for their retry, a request for its turn.
    IdleUntil { until: Timestamp },
    /// The listing or the session failed.
    Failed { scope: RequestScope, failure: Failure, sample: RandomSample },
    /// There is another credential than the one that was refused.
    CredentialChanged,
    /// The credential was read again, and is the one that was refused.
    CredentialUnchanged,
    /// A breaker lets nothing through before then.
    CircuitOpen { until: Timestamp, reason: String },
    /// The breaker that was waited for lets everything through again.
    CircuitClosed,
}

/// What is to be listed in a session.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SyncScope {
    /// What has come since the last session; everything, if there was none.
    Incremental,
    /// Everything once more, to find what the changes did not tell.
    Reconcile,
    /// Everything, since the source has forgotten our place in its changes.
    FullResync,
}
