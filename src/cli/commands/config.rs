//! `config check` and `config show`: check the configuration, or print the effective settings.

use crate::app::context::AppContext;
use crate::app::error::ProgramError;
use crate::app::exit::ProgramExit;
use crate::cli::args::{CommonArgs, ConfigCommand};
use crate::cli::commands::config_probe::probe_sources;
use crate::cli::print::print_best_effort;

pub(super) fn config(
    common: &CommonArgs,
    command: &ConfigCommand,
) -> Result<ProgramExit, ProgramError> {
    let context = AppContext::load(&common.config_location())?;
    match command {
        ConfigCommand::Check(args) => {
            let sources = context.loaded.settings.sources.len();
            let summary = match sources {
                0 => "no sources yet: add a [source.NAME] table".to_owned(),
                1 => "1 source".to_owned(),
                count => format!("{count} sources"),
            };
            print_best_effort(format!("{} is valid: {summary}", context.config_file.display()));
            if args.probe {
                return probe_sources(common, &context, &args.sources);
            }
        }
        ConfigCommand::Show => print_best_effort(context.loaded.to_toml().trim_end()),
    }
    Ok(ProgramExit::Success)
}
