//! Errors of commands, and their exit codes.

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

/// Exit code for wrong usage. clap exits with the same code.
const USAGE_EXIT_CODE: u8 = 2;

/// Error of a command.
#[derive(Debug)]
pub(super) enum CliError {
    /// Message that says what failed, where, and what to do.
    Message { exit: ProgramExit, message: String },
    /// Wrong usage, such as a missing or invalid argument.
    Usage(String),
    /// The result could not be written to standard output.
    StdoutFailed(io::Error),
}

impl CliError {
    pub(super) fn new(exit: ProgramExit, message: impl Into<String>) -> Self {
        Self::Message { exit, message: message.into() }
    }

    /// Returns the message, for output other than standard error.
    #[must_use]
    pub(super) fn message(&self) -> String {
        match self {
            Self::Message { message, .. } | Self::Usage(message) => message.clone(),
            Self::StdoutFailed(error) => error.to_string(),
        }
    }
}

/// Prints the error of a command, if there is one, and returns the exit code of the program.
pub(super) fn to_exit_code(result: Result<ProgramExit, CliError>) -> ExitCode {
    match result {
        // The reader of the pipe has exited, as `head` does. That is not a failure.
        Err(CliError::StdoutFailed(error)) if error.kind() == io::ErrorKind::BrokenPipe => {
            ExitCode::SUCCESS
        }
        Err(CliError::Usage(message)) => {
            let error = Cli::command().error(ErrorKind::MissingRequiredArgument, message);
            print_note(error.to_string().trim_end());
            ExitCode::from(USAGE_EXIT_CODE)
        }
        result => report_error(result).into(),
    }
}

/// Prints the error of one step, if there is one, for a command that then continues.
pub(super) fn report_error(result: Result<ProgramExit, CliError>) -> ProgramExit {
    match result {
        Ok(exit) => exit,
        Err(CliError::Message { exit, message }) => print_error(exit, message),
        Err(CliError::Usage(message)) => print_error(ProgramExit::Other, message),
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
    fn from(error: UnknownSourceError) -> Self {
        Self::new(ProgramExit::Configuration, error.to_string())
    }
}
