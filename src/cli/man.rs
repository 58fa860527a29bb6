//! `man`: the manual pages, made of what `--help` says, for whoever packages the program.

use std::path::Path;

use clap::CommandFactory;

use crate::cli::args::Cli;
use crate::cli::exit::Exit;
use crate::cli::trouble::Trouble;

/// Writes a page for the program and one for each command into a folder that is there.
pub(super) fn man(dir: &Path) -> Result<Exit, Trouble> {
    clap_mangen::generate_to(Cli::command(), dir).map_err(|error| {
        let why = format!("cannot write the manual pages into {}: {error}", dir.display());
        Trouble::new(Exit::Other, why)
    })?;
    Ok(Exit::Done)
}
