//! Why a command did not do what was asked, and how the program then ends.

use std::io;
use std::process::ExitCode;

use clap::CommandFactory;
use clap::error::ErrorKind;

use crate::cli::args::Cli;
use crate::cli::exit::Exit;
use crate::cli::print::{fail, note};
use crate::config::UnknownSourceError;
use crate::disk::LockFileError;
use crate::engine::Failure;
use crate::ledger::LedgerOpenError;

/// The exit code for what was typed wrongly, as the parser of arguments has it.
const USAGE: u8 = 2;

#[derive(Debug)]
pub(super) enum Trouble {
    /// A sentence: what, where, what to do.
    Told { exit: Exit, why: String },
    /// Something is missing from what was typed.
    Usage(String),
    /// The result could not be printed.
    Unread(io::Error),
}

impl Trouble {
    pub(super) fn new(exit: Exit, why: impl Into<String>) -> Self {
        Self::Told { exit, why: why.into() }
    }
}

impl Trouble {
    /// The same for a reader who is elsewhere.
    #[must_use]
    pub(super) fn why(&self) -> String {
        match self {
            Self::Told { why, .. } | Self::Usage(why) => why.clone(),
            Self::Unread(error) => error.to_string(),
        }
    }
}

/// Ends a command: says what went wrong, if anything did.
pub(super) fn end(outcome: Result<Exit, Trouble>) -> ExitCode {
    match outcome {
        // Whoever has read enough leaves; that is no failure.
        Err(Trouble::Unread(error)) if error.kind() == io::ErrorKind::BrokenPipe => {
            ExitCode::SUCCESS
        }
        Err(Trouble::Usage(why)) => {
            let error = Cli::command().error(ErrorKind::MissingRequiredArgument, why);
            note(error.to_string().trim_end());
            ExitCode::from(USAGE)
        }
        outcome => told(outcome).into(),
    }
}

/// Says what went wrong, if anything did, where more is to come.
pub(super) fn told(outcome: Result<Exit, Trouble>) -> Exit {
    match outcome {
        Ok(exit) => exit,
        Err(Trouble::Told { exit, why }) => fail(exit, why),
        Err(Trouble::Usage(why)) => fail(Exit::Other, why),
        Err(Trouble::Unread(error)) => fail(Exit::Other, format!("cannot print: {error}")),
    }
}

impl From<Failure> for Trouble {
    fn from(failure: Failure) -> Self {
        Self::new(Exit::Storage, failure.message)
    }
}

impl From<LedgerOpenError> for Trouble {
    fn from(error: LedgerOpenError) -> Self {
        match error {
            LedgerOpenError::NewerVersion { .. } => {
                Self::new(Exit::Configuration, error.to_string())
            }
            LedgerOpenError::Damaged(failure) | LedgerOpenError::Failed(failure) => failure.into(),
        }
    }
}

impl From<LockFileError> for Trouble {
    fn from(error: LockFileError) -> Self {
        match error {
            LockFileError::Held { .. } => Self::new(Exit::Other, error.to_string()),
            LockFileError::Storage(failure) => failure.into(),
        }
    }
}

impl From<UnknownSourceError> for Trouble {
    fn from(unknown: UnknownSourceError) -> Self {
        Self::new(Exit::Configuration, unknown.to_string())
    }
}
