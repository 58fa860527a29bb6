//! Readers of the values in the tables of a profile: maps, paths and lists of scalars. An error
//! states the problem and the remedy.

use cynosure_engine::Scalar;
use cynosure_engine::rest::JsonPath;
use cynosure_engine::user_input::Location;

use crate::config::file::{Node, Table, Value, describe, expected};
use crate::config::kind::rest::scope::check_text;
use crate::config::merge::EnvValueForm;
use crate::config::reader::Section;
use crate::config::show::quote_key;

const PATH_EXAMPLE: &str = "a path such as \"/messages\"";
const SCALAR_HELP: &str = "a text, a whole number, true or false, or a list of them";

/// Reads each entry of a table of names. Every error is recorded at its own key.
pub(super) fn read_map<T>(
    section: &mut Section<'_, '_>,
    key: &'static str,
    read: impl Fn(&str, &Node) -> Result<T, String>,
) -> Vec<(String, T)> {
    let Some(entries) = take_table(section, key) else { return Vec::new() };
    let name = section.key(key);
    let mut values = Vec::new();
    for (entry, node) in entries {
        match read(&entry, &node) {
            Ok(value) => values.push((entry, value)),
            Err(error) => {
                let message = format!("`{name}.{}` {error}", quote_key(&entry));
                section.reader.report_error(node.location, message);
            }
        }
    }
    values
}

/// Removes a table of names from a section.
pub(super) fn take_table(section: &mut Section<'_, '_>, key: &'static str) -> Option<Table> {
    let node = section.take(key)?;
    if let Value::Table(table) = node.value {
        return Some(table);
    }
    let message = format!(
        "`{}` is {}; write {key} = {{ NAME = \"value\" }}",
        section.key(key),
        describe(&node.value)
    );
    section.reader.report_error(node.location, message);
    None
}

/// Reads a path that has no default. Its absence is an error at `location`.
pub(super) fn required_path(
    section: &mut Section<'_, '_>,
    key: &'static str,
    location: &Location,
    remedy: &str,
) -> Option<JsonPath> {
    let path = section.required(key, EnvValueForm::Toml, location, remedy, read_path);
    path.map(|(path, _)| path)
}

/// Reads an optional path.
pub(super) fn optional_path(section: &mut Section<'_, '_>, key: &'static str) -> Option<JsonPath> {
    section.given(key, EnvValueForm::Toml, read_path).map(|(path, _)| path)
}

/// Reads an optional path, or a list of paths. Without the key, there are none.
pub(super) fn optional_paths(section: &mut Section<'_, '_>, key: &'static str) -> Vec<JsonPath> {
    let given = section.given(key, EnvValueForm::Toml, read_paths);
    given.map(|(paths, _)| paths).unwrap_or_default()
}

/// Reads a path.
pub(super) fn read_path(node: &Node) -> Result<JsonPath, String> {
    let text = node.value.text().ok_or_else(|| expected(&node.value, PATH_EXAMPLE))?;
    check_text(text)?;
    JsonPath::parse(text).map_err(|error| format!("is not valid: {error}"))
}

/// Reads a path, or a list of paths of which the first with a value counts.
pub(super) fn read_paths(node: &Node) -> Result<Vec<JsonPath>, String> {
    match &node.value {
        Value::List(items) if items.is_empty() => {
            Err(format!("is an empty list; write {PATH_EXAMPLE}"))
        }
        Value::List(items) => items.iter().map(read_path).collect(),
        Value::Text(_)
        | Value::Integer(_)
        | Value::Float(_)
        | Value::Flag(_)
        | Value::Date(_)
        | Value::Table(_) => Ok(vec![read_path(node)?]),
    }
}

/// Reads a value without others in it, or a list of them.
pub(super) fn read_scalars(node: &Node) -> Result<Vec<Scalar>, String> {
    match &node.value {
        Value::List(items) if items.is_empty() => {
            Err(format!("is an empty list; write {SCALAR_HELP}"))
        }
        Value::List(items) => items.iter().map(read_scalar).collect(),
        Value::Text(_)
        | Value::Integer(_)
        | Value::Float(_)
        | Value::Flag(_)
        | Value::Date(_)
        | Value::Table(_) => Ok(vec![read_scalar(node)?]),
    }
}

fn read_scalar(node: &Node) -> Result<Scalar, String> {
    match &node.value {
        Value::Text(text) => Ok(Scalar::Text(text.clone())),
        Value::Integer(number) => Ok(Scalar::Integer(*number)),
        Value::Flag(flag) => Ok(Scalar::Flag(*flag)),
        Value::Float(_) | Value::Date(_) | Value::List(_) | Value::Table(_) => {
            Err(expected(&node.value, SCALAR_HELP))
        }
    }
}
