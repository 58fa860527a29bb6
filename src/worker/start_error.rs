//! Why a source cannot begin, in one sentence with a remedy.

use std::fmt;
use std::path::PathBuf;

use crate::disk::LockError;
use crate::engine::Failure;
use crate::ledger::OpenError;

/// Why a source cannot begin.
#[derive(Debug)]
pub enum StartError {
    /// Another worker has it.
    Locked {
        pid: Option<u32>,
        path: PathBuf,
    },
    /// A newer program wrote what is there.
    NewerFormat(String),
    Configuration(String),
    /// The archive is not there or belongs to another ledger, or the ledger is damaged. Waited for.
    StorageUnusable(Failure),
    Failed(Failure),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Locked { pid: Some(pid), path } => write!(
                f,
                "another worker (process {pid}) is at work on this source and holds {}; \
                 stop it, or leave the work to it",
                path.display()
            ),
            Self::Locked { pid: None, path } => write!(
                f,
                "another worker is at work on this source and holds {}; stop it, or leave the \
                 work to it",
                path.display()
            ),
            Self::NewerFormat(why) | Self::Configuration(why) => f.write_str(why),
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

impl From<LockError> for StartError {
    fn from(error: LockError) -> Self {
        match error {
            LockError::Held { path, pid } => Self::Locked { pid, path },
            LockError::Storage(failure) => Self::Failed(failure),
        }
    }
}

impl From<OpenError> for StartError {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::Newer { .. } => Self::NewerFormat(error.to_string()),
            OpenError::Damaged(failure) => Self::StorageUnusable(failure),
            OpenError::Failed(failure) => Self::Failed(failure),
        }
    }
}
