//! `config check` and `config show`: check the configuration, or print the effective settings.

use crate::cli::args::{CommonArgs, ConfigCommand};
use crate::cli::context::AppContext;
use crate::cli::exit::ProgramExit;
use crate::cli::print::{print_best_effort, print_error};

pub(super) fn config(common: &CommonArgs, command: &ConfigCommand) -> ProgramExit {
    let context = match AppContext::load(common) {
        Ok(context) => context,
        Err(errors) => return print_error(ProgramExit::Configuration, errors),
    };
    match command {
        ConfigCommand::Check => {
            let sources = context.loaded.settings.sources.len();
            let summary = match sources {
                0 => "no sources yet: add a [source.NAME] table".to_owned(),
                1 => "1 source".to_owned(),
                count => format!("{count} sources"),
            };
            print_best_effort(format!("{} is valid: {summary}", context.config_file.display()));
        }
        ConfigCommand::Show => print_best_effort(context.loaded.to_toml().trim_end()),
    }
    ProgramExit::Success
}
