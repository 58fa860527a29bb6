//! Decisions of changes that depend on rows: pages, batches and adopted documents.
//!
//! A decision is made on a copy of the rows, and its result is the set of rows to write. Nothing
//! here knows a database. The decisions are those of the ledger in SQLite, in the same order.

mod adopt;
mod column_values;
mod commit;
mod details;
mod document_rows;
mod item_rows;
mod listing;
mod locations;
mod session_work;
mod versions;
mod workspace;

pub(super) use self::adopt::{adopt_documents, adoption_entries};
pub(super) use self::commit::{BatchKeys, batch_keys, commit};
pub(super) use self::details::session_response;
pub(super) use self::listing::{page_entries, record_page};

#[cfg(test)]
mod tests;
