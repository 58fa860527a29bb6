//! Ledger of one source: a row per item (such as a thread) and a row per document (such as a
//! message).
//!
//! State that must survive the process is committed here before the program acts on it: the ids of
//! a page before its page token, a document's row after its bytes, a transition before its effects.
//!
//! The worker asks a [`LedgerReader`] and changes a [`Ledger`]; commands and the dashboard ask
//! [`LedgerReports`]. One machine keeps its ledgers in [files of SQLite](SqliteLedger), a fleet in a
//! database of PostgreSQL. All SQL of the program is in this folder.

mod adopt;
mod document_facts;
mod due_items;
mod export;
mod failures;
mod history;
mod identity;
mod limits;
mod open_error;
#[cfg(feature = "fleet")]
pub mod postgres;
mod reader;
mod reports;
mod rows;
mod session;
mod sqlite;
mod totals;
mod updates;
mod verify;
mod writer;

pub use self::adopt::{AdoptedDocument, AdoptionCounts};
pub use self::document_facts::{DocumentFacts, FetchedContent, LabeledDocument};
pub use self::due_items::{DocumentRow, DueItem, DueLimits};
pub use self::export::{ExportDocument, ExportVersion};
pub use self::failures::{FailureFilter, FailureRow, RequeueFilter, StoredResponse};
pub use self::history::TransitionRow;
pub use self::identity::LedgerIdentity;
pub use self::open_error::LedgerOpenError;
#[cfg(feature = "fleet")]
pub use self::postgres::PostgresLedger;
pub use self::reader::LedgerReader;
pub use self::reports::LedgerReports;
pub use self::rows::{
    DocumentRowId, ItemRowId, ItemStatus, ListingKind, SessionCounts, SessionKind, SessionRow,
};
pub use self::session::{NewSession, PageCounts};
pub use self::sqlite::{SqliteLedger, sqlite_version};
pub use self::totals::{ArchiveTotals, LastSession, SessionTotals};
pub use self::updates::LedgerUpdate;
pub use self::verify::{CounterCheck, FileRowId, StatusCounts, StoredFile};
pub use self::writer::Ledger;

#[cfg(test)]
use self::sqlite::tests::home::SqliteHome as LedgerHome;
#[cfg(test)]
mod proptests;
#[cfg(test)]
mod tests;
