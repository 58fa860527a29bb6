//! Next commands to try, as they must be typed in this environment.

use std::path::Path;

use crate::config::EnvVars;

/// Smallest width of the column with the commands.
const COMMAND_WIDTH_MIN: usize = 10;

/// Program as it must be typed, with the option that names the configuration.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(in crate::cli::commands) struct TypedProgram(String);

impl TypedProgram {
    /// Returns the program of this process. `config` is `None` if the program finds it by itself.
    #[must_use]
    pub(in crate::cli::commands) fn new(environment: &EnvVars, config: Option<&Path>) -> Self {
        let mut program = match (environment.get("CARGO"), std::env::args().next()) {
            (Some(_), _) if cfg!(debug_assertions) => "cargo run --".to_owned(),
            (Some(_), _) => "cargo run --release --".to_owned(),
            (None, Some(program)) => program,
            (None, None) => "cynosure".to_owned(),
        };
        if let Some(config) = config {
            program.push_str(&format!(" --config {}", quote_word(&config.display().to_string())));
        }
        Self(program)
    }

    /// Returns one command.
    #[must_use]
    pub(in crate::cli::commands) fn command(&self, command: &str) -> String {
        format!("{} {command}", self.0)
    }

    /// Returns a list of commands, each with its description.
    #[must_use]
    pub(in crate::cli::commands) fn next_steps(&self, steps: &[(&str, &str)]) -> String {
        let longest = steps.iter().map(|(command, _)| command.len()).max().unwrap_or_default();
        let width = longest.max(COMMAND_WIDTH_MIN);
        let line = |(command, description): &(&str, &str)| {
            format!("  {} {command:width$}  {description}", self.0)
        };
        let lines = std::iter::once("Next steps:".to_owned()).chain(steps.iter().map(line));
        lines.collect::<Vec<_>>().join("\n")
    }
}

/// Quotes a word for the shell, if it needs that.
fn quote_word(word: &str) -> String {
    let is_plain = |c: char| c.is_alphanumeric() || "-_./+,:@".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_aligned_and_name_the_configuration() {
        let program = TypedProgram("cynosure --config a.toml".to_owned());

        let text = program.next_steps(&[("status", "show"), ("service install", "install")]);

        assert_eq!(
            text,
            "Next steps:\n\
             \x20 cynosure --config a.toml status           show\n\
             \x20 cynosure --config a.toml service install  install"
        );
        assert_eq!(program.command("verify"), "cynosure --config a.toml verify");
    }

    #[test]
    fn a_path_is_quoted_if_the_shell_would_split_it() {
        for (word, quoted) in [
            ("demo/config.toml", "demo/config.toml"),
            ("my mail/config.toml", "'my mail/config.toml'"),
            ("it's", r"'it'\''s'"),
            ("$HOME", "'$HOME'"),
            ("", "''"),
        ] {
            assert_eq!(quote_word(word), quoted);
        }
    }

    #[test]
    fn under_cargo_the_program_is_run_by_it() {
        let environment = EnvVars::from_iter([("CARGO", "/usr/bin/cargo")]);

        let command = TypedProgram::new(&environment, None).command("status");

        assert!(command.starts_with("cargo run "), "{command}");
        assert!(command.ends_with(" -- status"), "{command}");
    }
}
