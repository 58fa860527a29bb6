//! `service`: writes, starts and removes units of systemd for this program.

pub(in crate::cli) mod args;
mod config;
mod folders;
mod install;
mod installed_worker;
mod manager;
mod owner;
mod program;
mod target_files;
mod uninstall;

use crate::app::error::ProgramError;
use crate::app::exit::ProgramExit;
use crate::cli::args::CommonArgs;
use crate::cli::commands::service::args::ServiceCommand;

pub(super) fn service(
    common: &CommonArgs,
    command: &ServiceCommand,
) -> Result<ProgramExit, ProgramError> {
    match command {
        ServiceCommand::Install(args) => install::install(common, args),
        ServiceCommand::Uninstall(scope) => uninstall::uninstall(common, *scope),
    }
}
