//! Error of opening a ledger.

use std::fmt;
use std::path::PathBuf;

use cynosure_engine::Failure;

/// Error of opening a ledger.
#[derive(Debug)]
pub enum LedgerOpenError {
    /// A newer version of the program wrote the file. Nothing was changed.
    NewerVersion {
        path: PathBuf,
        version: usize,
        /// Newest version that this program reads.
        known_version: usize,
    },
    /// The file is not a ledger, or is damaged.
    Damaged(Failure),
    Failed(Failure),
}

impl fmt::Display for LedgerOpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NewerVersion { path, version, known_version } => write!(
                f,
                "{} was written by a newer cynosure (format {version}, this one knows {known_version}); \
                 install that version again, nothing was changed",
                path.display()
            ),
            Self::Damaged(failure) | Self::Failed(failure) => failure.fmt(f),
        }
    }
}

impl std::error::Error for LedgerOpenError {}
