//! Error of opening a ledger.

use std::fmt;

use cynosure_engine::Failure;

/// Error of opening a ledger.
#[derive(Debug)]
pub enum LedgerOpenError {
    /// A newer version of the program wrote the ledger. Nothing was changed.
    NewerVersion {
        /// File or database.
        place: String,
        version: usize,
        /// Newest version that this program reads.
        known_version: usize,
    },
    /// It is not a ledger, or is damaged.
    Damaged(Failure),
    Failed(Failure),
}

impl fmt::Display for LedgerOpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NewerVersion { place, version, known_version } => write!(
                f,
                "{place} was written by a newer cynosure (format {version}, this one knows \
                 {known_version}); install that version again, nothing was changed"
            ),
            Self::Damaged(failure) | Self::Failed(failure) => failure.fmt(f),
        }
    }
}

impl std::error::Error for LedgerOpenError {}
