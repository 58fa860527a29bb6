//! Error that ends a command, with the exit code of the program.

use std::io;

use cynosure_engine::Failure;

use crate::app::exit::ProgramExit;
use crate::config::UnknownSourceError;
use crate::disk::LockFileError;
use crate::ledger::LedgerOpenError;

/// Error that ends a command, or one step of it.
#[derive(Debug)]
pub(crate) enum ProgramError {
    /// Message that says what failed, where, and what to do.
    Message { exit: ProgramExit, message: String },
    /// Wrong usage, such as a missing or invalid argument.
    Usage(String),
    /// The result could not be written to standard output.
    StdoutFailed(io::Error),
}

impl ProgramError {
    pub(crate) fn new(exit: ProgramExit, message: impl Into<String>) -> Self {
        Self::Message { exit, message: message.into() }
    }

    /// Returns the message, for output other than standard error.
    #[must_use]
    pub(crate) fn message(&self) -> String {
        match self {
            Self::Message { message, .. } | Self::Usage(message) => message.clone(),
            Self::StdoutFailed(error) => error.to_string(),
        }
    }
}

impl From<Failure> for ProgramError {
    fn from(failure: Failure) -> Self {
        Self::new(ProgramExit::Storage, failure.message)
    }
}

impl From<LedgerOpenError> for ProgramError {
    fn from(error: LedgerOpenError) -> Self {
        match error {
            LedgerOpenError::NewerVersion { .. } => {
                Self::new(ProgramExit::Configuration, error.to_string())
            }
            LedgerOpenError::Damaged(failure) | LedgerOpenError::Failed(failure) => failure.into(),
        }
    }
}

impl From<LockFileError> for ProgramError {
    fn from(error: LockFileError) -> Self {
        match error {
            LockFileError::Held { .. } => Self::new(ProgramExit::Other, error.to_string()),
            LockFileError::Storage(failure) => failure.into(),
        }
    }
}

impl From<UnknownSourceError> for ProgramError {
    fn from(error: UnknownSourceError) -> Self {
        Self::new(ProgramExit::Configuration, error.to_string())
    }
}
