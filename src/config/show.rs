//! The effective configuration as TOML with comments.

use std::fmt::Write as _;

use cynosure_engine::user_input::Location;

/// Effective value of one setting, with its origin.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct EffectiveSetting {
    /// Name of the table, such as `restart` or `source.work`.
    pub table: String,
    pub key: &'static str,
    /// `None` for an optional setting that is not set.
    pub toml_value: Option<String>,
    /// Place where the value is written; `None` for a default.
    pub location: Option<Location>,
    /// Preset or profile that the default comes from, or a part of the value, such as
    /// `preset gmail`.
    pub origin: Option<String>,
}

/// Widest padding of a line before its comment, in characters. Few lines are longer.
const COMMENT_COLUMN_MAX: usize = 60;

/// Writes the entries as TOML, each with its origin in a comment; the comments are aligned.
pub(super) fn to_toml(entries: &[EffectiveSetting]) -> String {
    let lines: Vec<String> = entries.iter().map(setting_line).collect();
    let widths = lines.iter().map(|line| line.chars().count());
    let column = widths.filter(|width| *width <= COMMENT_COLUMN_MAX).max().unwrap_or(0);

    let mut toml = String::new();
    let mut table = "";
    for (entry, line) in entries.iter().zip(&lines) {
        if entry.table != table {
            let gap = if table.is_empty() { "" } else { "\n" };
            append_text(&mut toml, format_args!("{gap}[{}]\n", entry.table));
            table = &entry.table;
        }
        let origin = match (&entry.location, &entry.origin) {
            (Some(location), Some(origin)) => format!("{location} and {origin}"),
            (Some(location), None) => location.to_string(),
            (None, Some(origin)) => origin.clone(),
            (None, None) => "default".to_owned(),
        };
        append_text(&mut toml, format_args!("{line:column$}  # {origin}\n"));
    }
    toml
}

fn append_text(text: &mut String, more: std::fmt::Arguments<'_>) {
    text.write_fmt(more).expect("writing to a string cannot fail");
}

fn setting_line(entry: &EffectiveSetting) -> String {
    match &entry.toml_value {
        Some(value) => format!("{} = {value}", entry.key),
        None => format!("# {} is not set", entry.key),
    }
}

/// Writes a TOML string, escaped so that it stays on its line.
pub(super) fn quote(text: &str) -> String {
    let mut quoted = String::from("\"");
    for letter in text.chars() {
        match letter {
            '"' | '\\' => quoted.extend(['\\', letter]),
            control if control.is_control() => {
                quoted.push_str(&format!("\\u{:04X}", u32::from(control)));
            }
            other => quoted.push(other),
        }
    }
    quoted.push('"');
    quoted
}

/// Writes a TOML key, bare where TOML allows it.
pub(super) fn quote_key(key: &str) -> String {
    let is_bare = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if !key.is_empty() && key.chars().all(is_bare) { key.to_owned() } else { quote(key) }
}

/// Writes a TOML list of strings on one line.
pub(super) fn quote_list(texts: &[String]) -> String {
    let quoted: Vec<String> = texts.iter().map(|text| quote(text)).collect();
    format!("[{}]", quoted.join(", "))
}
