//! The effective configuration as a person, or a TOML reader, can read it.

use std::fmt::Write as _;

use super::location::Location;

/// One setting as it is in effect.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct EffectiveSetting {
    /// The table as its header names it, `restart` or `source.work`.
    pub table: String,
    pub key: &'static str,
    /// The value as TOML; `None` for a setting that may be left out and is.
    pub toml_value: Option<String>,
    /// Where it was written; `None` for a default.
    pub location: Option<Location>,
}

/// The widest a line is padded to, in characters, before its comment: longer lines are few and stick out.
const COMMENT_COLUMN_MAX: usize = 60;

/// Writes the entries as TOML, each with the place it came from in a comment, the comments aligned.
pub(super) fn to_toml(entries: &[EffectiveSetting]) -> String {
    let lines: Vec<String> = entries.iter().map(setting_line).collect();
    let widths = lines.iter().map(|line| line.chars().count());
    let column = widths.filter(|width| *width <= COMMENT_COLUMN_MAX).max().unwrap_or(0);

    let mut shown = String::new();
    let mut table = "";
    for (entry, line) in entries.iter().zip(&lines) {
        if entry.table != table {
            let gap = if table.is_empty() { "" } else { "\n" };
            append_text(&mut shown, format_args!("{gap}[{}]\n", entry.table));
            table = &entry.table;
        }
        match &entry.location {
            Some(place) => append_text(&mut shown, format_args!("{line:column$}  # {place}\n")),
            None => append_text(&mut shown, format_args!("{line:column$}  # default\n")),
        }
    }
    shown
}

fn append_text(text: &mut String, more: std::fmt::Arguments<'_>) {
    text.write_fmt(more).expect("writing to a string cannot fail");
}

fn setting_line(entry: &EffectiveSetting) -> String {
    match &entry.toml_value {
        Some(literal) => format!("{} = {literal}", entry.key),
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
