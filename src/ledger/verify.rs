//! Stored files, and counts that `verify` compares.

use cynosure_engine::{DocumentId, ItemId};

use crate::ledger::rows::{DocumentRowId, SessionCounts};

/// Row number of a stored file: of a document's current version, or of an earlier one.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum FileRowId {
    Current(DocumentRowId),
    Superseded(i64),
}

/// One version of a document that is in the archive.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct StoredFile {
    pub row_id: FileRowId,
    pub item: ItemId,
    pub document: DocumentId,
    /// The session's folder in the archive.
    pub folder: String,
    /// The path below it.
    pub file: String,
    /// In bytes.
    pub length: u64,
    pub sha256: [u8; 32],
}

/// The newest session's counters beside a count of its rows.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct CounterCheck {
    pub recorded: StatusCounts,
    pub counted: StatusCounts,
}

/// Numbers of items by status.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct StatusCounts {
    pub pending: u64,
    pub stored: u64,
    pub gone: u64,
    pub quarantined: u64,
}

impl CounterCheck {
    #[must_use]
    pub fn is_consistent(&self) -> bool {
        self.recorded == self.counted
    }
}

impl From<SessionCounts> for StatusCounts {
    fn from(counts: SessionCounts) -> Self {
        let SessionCounts { stored, gone, quarantined, .. } = counts;
        Self { pending: counts.pending(), stored, gone, quarantined }
    }
}
