//! Command line of the program: parses the arguments, runs one command and prints its output.

mod args;
mod commands;
mod error;
mod key_values;
mod print;
mod table;
mod time_arg;

use std::process::ExitCode;

use clap::Parser;

use self::args::Cli;

/// Parses the command line and runs its command.
#[must_use]
pub fn main() -> ExitCode {
    commands::run_command(&Cli::parse())
}
