//! Remembers: a row per item, in SQLite, one file per source.
//!
//! Whatever must outlive the process is here before it is acted upon: the ids of
//! a page before its place, a document's row after its bytes, a transition before
//! its effects. Each public call of [`Ledger`] is one transaction, durable when it
//! returns. A late or repeated fact changes nothing.
//!
//! All SQL of the program is in this folder. Every statement that the worker runs
//! goes by an index, however many rows there are; only what `verify` asks reads all.

mod account;
mod adopt;
mod begin;
mod clock;
mod commit;
mod failure;
mod failures;
mod history;
mod identity;
mod listing;
mod missing;
mod open;
mod replies;
mod rows;
mod schema;
mod standing;
mod trials;
mod verify;
mod work;

pub use self::adopt::{AdoptedDocument, Adoption};
pub use self::begin::SessionStart;
pub use self::commit::Outcome;
pub use self::failures::{FailureFilter, FailureRow, Requeue};
pub use self::history::Transition;
pub use self::identity::Identity;
pub use self::listing::{Listed, NextPlace, PageOutcome};
pub use self::open::{Ledger, OpenError, Reader};
pub use self::replies::Replied;
pub use self::rows::{DocumentNo, ItemNo, ItemStatus, ListingKind, Session, SessionKind, Tally};
pub use self::verify::{Counted, FileNo, Recount, StoredFile};
pub use self::work::{DueLimits, WantedDocument, Work};

/// The version of SQLite that is built in.
#[must_use]
pub fn sqlite_version() -> &'static str {
    rusqlite::version()
}

#[cfg(test)]
mod laws;
#[cfg(test)]
mod tests;
