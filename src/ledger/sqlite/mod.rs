//! Ledger in a file of SQLite, for one worker on one machine.
//!
//! Every statement that the worker runs uses an index, however many rows there are; only the queries
//! of `verify` read all rows.

mod account;
mod adopt;
mod clock_step;
mod commit;
mod contents;
mod document_facts;
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
mod operations;
mod responses;
mod rows;
mod schema;
mod session;
mod totals;
mod verify;

pub use self::open::SqliteLedger;

/// Returns the version of the built-in SQLite.
#[must_use]
pub fn sqlite_version() -> &'static str {
    rusqlite::version()
}

#[cfg(test)]
pub(super) mod tests;
