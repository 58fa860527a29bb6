//! Items that are not stored, and the last responses of the server to them.

use cynosure_engine::{Cause, ItemId, RecordedResponse, Timestamp};

use crate::ledger::rows::ItemStatus;

/// Filter of failures. The default matches all.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct FailureFilter {
    /// Only failures with this cause.
    pub cause: Option<Cause>,
    /// Only items that failed, or were found to be gone, at this time or later.
    pub since: Option<Timestamp>,
}

/// Item that is not stored, or not completely.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct FailureRow {
    pub item: ItemId,
    pub status: ItemStatus,
    /// Attempts that failed.
    pub attempts: u32,
    /// Time of the next attempt; `None` if the item is gone.
    pub next_attempt_at: Option<Timestamp>,
    pub cause: Option<Cause>,
    pub message: String,
    /// Time of the last failure, if recorded.
    pub failed_at: Option<Timestamp>,
    /// Number of quarantines in a row.
    pub quarantine_count: u32,
    /// Last failure response of the server.
    pub last_response: Option<StoredResponse>,
}

/// Selection of items to try again.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum RequeueFilter {
    /// Quarantined items that match the filter.
    Quarantined(FailureFilter),
    /// One item, in quarantine or gone.
    Item(ItemId),
}

/// Failure response of a server, with its time.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct StoredResponse {
    pub at: Timestamp,
    pub response: RecordedResponse,
}
