//! `config check` and `config show`.

use crate::cli::args::{CommonArgs, ConfigCommand};
use crate::cli::context::AppContext;
use crate::cli::exit::ProgramExit;
use crate::cli::print::{print_best_effort, print_error};

pub(super) fn config(common: &CommonArgs, command: &ConfigCommand) -> ProgramExit {
    let ground = match AppContext::load(common) {
        Ok(ground) => ground,
        Err(mistakes) => return print_error(ProgramExit::Configuration, mistakes),
    };
    match command {
        ConfigCommand::Check => {
            let sources = ground.loaded.settings.sources.len();
            let what = match sources {
                0 => "no sources yet: add a [source.NAME] table".to_owned(),
                1 => "1 source".to_owned(),
                many => format!("{many} sources"),
            };
            print_best_effort(format!("{} is good: {what}", ground.config_file.display()));
        }
        ConfigCommand::Show => print_best_effort(ground.loaded.to_toml().trim_end()),
    }
    ProgramExit::Success
}
