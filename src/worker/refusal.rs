//! Why a source cannot begin, in one sentence with a remedy.

use std::fmt;
use std::path::PathBuf;

use crate::disk::LockError;
use crate::engine::Failure;
use crate::ledger::OpenError;

/// Why a source cannot begin.
#[derive(Debug)]
pub enum Refusal {
    /// Another worker has it.
    Held {
        pid: Option<u32>,
        path: PathBuf,
    },
    /// A newer program wrote what is there.
    Newer(String),
    Configuration(String),
    /// The archive is not there or belongs to another ledger, or the ledger is damaged. Waited for.
    Unusable(Failure),
    Failed(Failure),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Held { pid: Some(pid), path } => write!(
                f,
                "another worker (process {pid}) is at work on this source and holds {}; \
                 stop it, or leave the work to it",
                path.display()
            ),
            Self::Held { pid: None, path } => write!(
                f,
                "another worker is at work on this source and holds {}; stop it, or leave the \
                 work to it",
                path.display()
            ),
            Self::Newer(why) | Self::Configuration(why) => f.write_str(why),
            Self::Unusable(failure) | Self::Failed(failure) => failure.fmt(f),
        }
    }
}

impl std::error::Error for Refusal {}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl From<LockError> for Refusal {
    fn from(error: LockError) -> Self {
        match error {
            LockError::Held { path, pid } => Self::Held { pid, path },
            LockError::Storage(failure) => Self::Failed(failure),
        }
    }
}

impl From<OpenError> for Refusal {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::Newer { .. } => Self::Newer(error.to_string()),
            OpenError::Damaged(failure) => Self::Unusable(failure),
            OpenError::Failed(failure) => Self::Failed(failure),
        }
    }
}
