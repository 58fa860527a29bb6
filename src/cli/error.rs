//! Errors of commands: how they are printed, and their exit codes.

use std::io;
use std::process::ExitCode;

use clap::CommandFactory;
use clap::error::ErrorKind;

use crate::app::error::ProgramError;
use crate::app::exit::ProgramExit;
use crate::cli::args::Cli;
use crate::cli::print::{print_error, print_note};

/// Exit code for wrong usage. clap exits with the same code.
const USAGE_EXIT_CODE: u8 = 2;

/// Prints the error of a command, if there is one, and returns the exit code of the program.
pub(super) fn to_exit_code(result: Result<ProgramExit, ProgramError>) -> ExitCode {
    match result {
        // The reader of the pipe has exited, as `head` does. That is not a failure.
        Err(ProgramError::StdoutFailed(error)) if error.kind() == io::ErrorKind::BrokenPipe => {
            ExitCode::SUCCESS
        }
        Err(ProgramError::Usage(message)) => {
            let error = Cli::command().error(ErrorKind::MissingRequiredArgument, message);
            print_note(error.to_string().trim_end());
            ExitCode::from(USAGE_EXIT_CODE)
        }
        result => report_error(result).into(),
    }
}

/// Prints the error of one step, if there is one, for a command that then continues.
pub(super) fn report_error(result: Result<ProgramExit, ProgramError>) -> ProgramExit {
    match result {
        Ok(exit) => exit,
        Err(ProgramError::Message { exit, message }) => print_error(exit, message),
        Err(ProgramError::Usage(message)) => print_error(ProgramExit::Other, message),
        Err(ProgramError::StdoutFailed(error)) => {
            print_error(ProgramExit::Other, format!("cannot print: {error}"))
        }
    }
}
