//! `config check` and `config show`.

use crate::cli::args::{Common, ConfigCommand};
use crate::cli::exit::Exit;
use crate::cli::place::Ground;
use crate::cli::print::{fail, out};

pub(super) fn config(common: &Common, command: &ConfigCommand) -> Exit {
    let ground = match Ground::find(common) {
        Ok(ground) => ground,
        Err(mistakes) => return fail(Exit::Configuration, mistakes),
    };
    match command {
        ConfigCommand::Check => {
            let sources = ground.loaded.settings.sources.len();
            let what = match sources {
                0 => "no sources yet: add a [source.NAME] table".to_owned(),
                1 => "1 source".to_owned(),
                many => format!("{many} sources"),
            };
            out(format!("{} is good: {what}", ground.config_file.display()));
        }
        ConfigCommand::Show => out(ground.loaded.to_toml().trim_end()),
    }
    Exit::Done
}
