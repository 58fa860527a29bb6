//! The commands, a file each.

mod args;
mod closing;
mod config;
mod demo;
mod exit;
mod logging;
mod place;
mod print;
mod progress;
mod run;
mod table;
mod words;

use std::process::ExitCode;

use clap::{CommandFactory, Parser};

use self::args::{Cli, Command};

/// Runs what was typed.
#[must_use]
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let common = &cli.common;
    match &cli.command {
        Command::Run(args) => run::run(common, args),
        Command::Demo(args) => demo::demo(common, args),
        Command::Config(command) => config::config(common, command).into(),
        Command::Status(_)
        | Command::History(_)
        | Command::Failures(_)
        | Command::Requeue(_)
        | Command::Verify(_)
        | Command::Reset(_) => ExitCode::FAILURE,
        Command::Completions { shell } => {
            let mut command = Cli::command();
            clap_complete::generate(*shell, &mut command, "cynosure", &mut std::io::stdout());
            ExitCode::SUCCESS
        }
    }
}
