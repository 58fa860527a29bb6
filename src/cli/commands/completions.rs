//! `completions`: prints the completions for a shell.

use clap::CommandFactory;

use crate::app::error::ProgramError;
use crate::app::exit::ProgramExit;
use crate::cli::args::Cli;
use crate::cli::print::print_result;

pub(super) fn print_completions(shell: clap_complete::Shell) -> Result<ProgramExit, ProgramError> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "cynosure", &mut script);
    print_result(String::from_utf8_lossy(&script).trim_end())?;
    Ok(ProgramExit::Success)
}
