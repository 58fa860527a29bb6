//! Ledgers of a fleet in PostgreSQL: those of all its sources in one database.
//!
//! Several workers use the database, and each source has one owner at a time. The owner has an
//! epoch, a number that grows with each owner. Every change checks it in its own transaction: one of
//! an earlier owner, which may only be slow, is refused. Every change also writes a row, so that a
//! change which was made before, and whose answer was lost, is acknowledged by a write of its own: a
//! primary shows rows that its standbys may not have yet.
//!
//! Each call is one statement that commits by itself. No transaction waits for a worker, which may
//! be stopped in the middle of it while others wait for its rows. A change that depends on rows
//! reads them, [decides](rules) on a copy, and writes those that changed. If another worker changed
//! one of them meanwhile, nothing is written, and it begins again.

mod changes;
mod files;
mod open;
mod operations;
mod reads;
mod records;
mod reports;
mod rows;
mod rules;
mod schema;
mod storable;

pub use self::open::PostgresLedger;
pub use self::schema::{migrate, schema_version};

#[cfg(test)]
mod server_tests;
#[cfg(test)]
mod tests;
