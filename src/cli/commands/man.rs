//! `man`: generates the manual pages from the help texts, for packaging.

use std::path::Path;

use clap::CommandFactory;

use crate::app::error::ProgramError;
use crate::app::exit::ProgramExit;
use crate::cli::args::Cli;

/// Writes a page for the program and one for each command into an existing folder.
pub(super) fn write_man_pages(dir: &Path) -> Result<ProgramExit, ProgramError> {
    clap_mangen::generate_to(Cli::command(), dir).map_err(|error| {
        let message = format!("cannot write the manual pages into {}: {error}", dir.display());
        ProgramError::new(ProgramExit::Other, message)
    })?;
    Ok(ProgramExit::Success)
}
