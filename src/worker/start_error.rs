//! Errors that prevent the start of a source, each one sentence with a remedy.

use std::fmt;
use std::path::PathBuf;

use cynosure_engine::Failure;

use crate::disk::LockFileError;
use crate::ledger::LedgerOpenError;

/// Error that prevents the start of a source.
#[derive(Debug)]
pub enum StartError {
    /// Another worker holds the lock of the source.
    Locked {
        pid: Option<u32>,
        path: PathBuf,
    },
    /// The stored files were written by a newer version of the program.
    NewerFormat(String),
    Configuration(String),
    /// The archive is missing or belongs to another ledger, or the ledger is damaged. The source
    /// waits until this is fixed.
    StorageUnusable(Failure),
    Failed(Failure),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Locked { pid: Some(pid), path } => write!(
                f,
                "another worker (process {pid}) runs this source and holds the lock {}; \
                 stop that worker, or let it continue",
                path.display()
            ),
            Self::Locked { pid: None, path } => write!(
                f,
                "another worker runs this source and holds the lock {}; stop that worker, or let \
                 it continue",
                path.display()
            ),
            Self::NewerFormat(message) | Self::Configuration(message) => f.write_str(message),
            Self::StorageUnusable(failure) | Self::Failed(failure) => failure.fmt(f),
        }
    }
}

impl std::error::Error for StartError {}

impl From<Failure> for StartError {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl From<LockFileError> for StartError {
    fn from(error: LockFileError) -> Self {
        match error {
            LockFileError::Held { path, pid } => Self::Locked { pid, path },
            LockFileError::Storage(failure) => Self::Failed(failure),
        }
    }
}

impl From<LedgerOpenError> for StartError {
    fn from(error: LedgerOpenError) -> Self {
        match error {
            LedgerOpenError::NewerVersion { .. } => Self::NewerFormat(error.to_string()),
            LedgerOpenError::Damaged(failure) => Self::StorageUnusable(failure),
            LedgerOpenError::Failed(failure) => Self::Failed(failure),
        }
    }
}
