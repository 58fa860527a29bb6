//! Error rules of a profile that no source names, to try them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use cynosure_engine::rest::ProfileErrorRule;
use cynosure_engine::user_input::Location;

use crate::config::environment::EnvVars;
use crate::config::file::{Node, Table, Value};
use crate::config::kind::rest::errors::read_rules;
use crate::config::kind::rest::loaded::read_profile;
use crate::config::kind::rest::nodes::TableNode;
use crate::config::merge::Layers;
use crate::config::reader::Reader;

/// Extension of the file of a profile. A name with it is a path.
const FILE_EXTENSION: &str = ".toml";

/// Place of the name in messages: the argument of a command.
const NAME_PLACE: &str = "--profile";

/// Returns the error rules of a built-in profile, or of the profile in a file.
///
/// # Errors
/// All mistakes in the rules, or a sentence if there is no such profile.
pub fn profile_error_rules(name: &str) -> Result<Vec<ProfileErrorRule>, String> {
    let environment = EnvVars::default();
    let mut reader = Reader::new(Layers::without_files(&environment), PathBuf::new());
    let table = Table::from([("profile".to_owned(), reference(name))]);
    let rules = reader.section("", table, |section| {
        let mut profile = read_profile(section, None)?;
        let key = "error".to_owned();
        let table = profile.take(&key).map(|node| TableNode { name: key, node });
        Some(read_rules(section.reader, table))
    });
    let (_, _, diagnostics) = reader.finish();
    match diagnostics {
        Some(diagnostics) => {
            let lines: Vec<String> = diagnostics.iter().map(ToString::to_string).collect();
            Err(lines.join("\n"))
        }
        None => Ok(rules.unwrap_or_default()),
    }
}

/// Returns the value of `profile` that a source with this profile would have.
fn reference(name: &str) -> Node {
    let location = Location::File(Arc::from(Path::new(NAME_PLACE)));
    let text = Node { location: location.clone(), value: Value::Text(name.to_owned()) };
    if name.ends_with(FILE_EXTENSION) {
        let file = Table::from([("file".to_owned(), text)]);
        return Node { location, value: Value::Table(file) };
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_built_in_profile_has_rules_with_their_lines() {
        for name in ["gmail", "graph", "mailru"] {
            let rules = profile_error_rules(name).unwrap();

            let place = format!("profiles/{name}.toml:");
            assert!(rules.iter().all(|rule| rule.location.starts_with(&place)), "{rules:?}");
            assert!(!rules.is_empty());
        }
    }

    #[test]
    fn the_rules_of_a_file_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("my.toml");
        let name = file.to_str().unwrap();
        let rules = |text: &str| {
            fs_err::write(&file, text).unwrap();
            profile_error_rules(name)
        };

        let one = rules("[[error]]\nwhen = { status = 404 }\nthen = \"gone\"\n").unwrap();
        assert_eq!(one.len(), 1);
        assert!(one[0].location.starts_with(&format!("{name}:")), "{}", one[0].location);
        assert_eq!(rules("base_url = \"https://api.example.com\"\n"), Ok(Vec::new()));
        let error = rules("[[error]]\nwhen = { status = 404 }\nthen = \"gonne\"\n").unwrap_err();
        assert!(error.starts_with(name) && error.contains("did you mean \"gone\"?"), "{error}");
        fs_err::remove_file(&file).unwrap();
        assert!(profile_error_rules(name).unwrap_err().contains("cannot be read"));
    }

    #[test]
    fn an_unknown_profile_is_rejected_with_a_suggestion() {
        let error = profile_error_rules("gmial").unwrap_err();

        assert!(error.starts_with("--profile: ") && error.contains("\"gmail\""), "{error}");
        assert!(!error.contains('\n'), "{error}");
    }
}
