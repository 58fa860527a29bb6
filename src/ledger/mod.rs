//! Ledger: SQLite database of one source, with a row per item (such as a thread) and a row per
//! document (such as a message).
//!
//! State that must survive the process is committed here before the program acts on it: the ids of
//! a page before its page token, a document's row after its bytes, a transition before its effects.
//! Each public call of [`Ledger`] is one transaction, durable when it returns. A late or repeated
//! update changes nothing.
//!
//! All SQL of the program is in this folder. Every statement that the worker runs uses an index,
//! however many rows there are; only the queries of `verify` read all rows.

mod account;
mod adopt;
mod clock_step;
mod commit;
mod contents;
mod due_items;
mod error;
mod export;
mod failure_counts;
mod failures;
mod history;
mod identity;
mod item_state;
mod labels;
mod listed_contents;
mod listing;
mod locations;
mod missing;
mod open;
mod responses;
mod rows;
mod schema;
mod session;
mod totals;
mod verify;

pub use self::adopt::{AdoptedDocument, AdoptionCounts};
pub use self::commit::LedgerUpdate;
pub use self::due_items::{DocumentRow, DueItem, DueLimits};
pub use self::export::{ExportDocument, ExportVersion};
pub use self::failures::{FailureFilter, FailureRow, RequeueFilter};
pub use self::history::TransitionRow;
pub use self::identity::LedgerIdentity;
pub use self::labels::LabeledDocument;
pub use self::listing::PageCounts;
pub use self::open::{Ledger, LedgerOpenError, LedgerReader};
pub use self::responses::StoredResponse;
pub use self::rows::{
    DocumentRowId, ItemRowId, ItemStatus, ListingKind, SessionCounts, SessionKind, SessionRow,
};
pub use self::session::NewSession;
pub use self::totals::{ArchiveTotals, SessionTotals};
pub use self::verify::{CounterCheck, FileRowId, StatusCounts, StoredFile};

/// Returns the version of the built-in SQLite.
#[must_use]
pub fn sqlite_version() -> &'static str {
    rusqlite::version()
}

#[cfg(test)]
mod proptests;
#[cfg(test)]
mod tests;
