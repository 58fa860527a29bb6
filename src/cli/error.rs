//! Why a command did not do what was asked, and how the program then ends.

use std::io;
use std::process::ExitCode;

use clap::CommandFactory;
use clap::error::ErrorKind;

use crate::cli::args::Cli;
use crate::cli::exit::ProgramExit;
use crate::cli::print::{print_error, print_note};
use crate::config::UnknownSourceError;
use crate::disk::LockFileError;
use crate::engine::Failure;
use crate::ledger::LedgerOpenError;

/// The exit code for what was typed wrongly, as the parser of arguments has it.
const USAGE_EXIT_CODE: u8 = 2;

#[derive(Debug)]
pub(super) enum CliError {
    /// A sentence: what, where, what to do.
    Message { exit: ProgramExit, message: String },
    /// Something is missing from what was typed.
    Usage(String),
    /// The result could not be printed.
    StdoutFailed(io::Error),
}

impl CliError {
    pub(super) fn new(exit: ProgramExit, why: impl Into<String>) -> Self {
        Self::Message { exit, message: why.into() }
    }
}

impl CliError {
    /// The same for a reader who is elsewhere.
    #[must_use]
    pub(super) fn message(&self) -> String {
        match self {
            Self::Message { message: why, .. } | Self::Usage(why) => why.clone(),
            Self::StdoutFailed(error) => error.to_string(),
        }
    }
}

/// Ends a command: says what went wrong, if anything did.
pub(super) fn to_exit_code(outcome: Result<ProgramExit, CliError>) -> ExitCode {
    match outcome {
        // Whoever has read enough leaves; that is no failure.
        Err(CliError::StdoutFailed(error)) if error.kind() == io::ErrorKind::BrokenPipe => {
            ExitCode::SUCCESS
        }
        Err(CliError::Usage(why)) => {
            let error = Cli::command().error(ErrorKind::MissingRequiredArgument, why);
            print_note(error.to_string().trim_end());
            ExitCode::from(USAGE_EXIT_CODE)
        }
        outcome => report_error(outcome).into(),
    }
}

/// Says what went wrong, if anything did, where more is to come.
pub(super) fn report_error(outcome: Result<ProgramExit, CliError>) -> ProgramExit {
    match outcome {
        Ok(exit) => exit,
        Err(CliError::Message { exit, message: why }) => print_error(exit, why),
        Err(CliError::Usage(why)) => print_error(ProgramExit::Other, why),
        Err(CliError::StdoutFailed(error)) => {
            print_error(ProgramExit::Other, format!("cannot print: {error}"))
        }
    }
}

impl From<Failure> for CliError {
    fn from(failure: Failure) -> Self {
        Self::new(ProgramExit::Storage, failure.message)
    }
}

impl From<LedgerOpenError> for CliError {
    fn from(error: LedgerOpenError) -> Self {
        match error {
            LedgerOpenError::NewerVersion { .. } => {
                Self::new(ProgramExit::Configuration, error.to_string())
            }
            LedgerOpenError::Damaged(failure) | LedgerOpenError::Failed(failure) => failure.into(),
        }
    }
}

impl From<LockFileError> for CliError {
    fn from(error: LockFileError) -> Self {
        match error {
            LockFileError::Held { .. } => Self::new(ProgramExit::Other, error.to_string()),
            LockFileError::Storage(failure) => failure.into(),
        }
    }
}

impl From<UnknownSourceError> for CliError {
    fn from(unknown: UnknownSourceError) -> Self {
        Self::new(ProgramExit::Configuration, unknown.to_string())
    }
}
