//! First stage: TOML as written, every value with its location, and the words for it in errors.
//!
//! The crate toml-span 0.7 knows the location of every key and value too, and builds in the same
//! 5 s. But it stops at the first syntax error, rejects dates and integers beyond 64 bits, and
//! saves no lines, because a [`Node`] can also come from an environment variable.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use cynosure_engine::user_input::{Diagnostic, Location};
use toml::de::{DeInteger, DeTable, DeValue};

use super::show::quote;

/// Longest text of a setting, in bytes: no name or address is longer.
const TEXT_BYTES_MAX: usize = 1024;

/// Longest text value that an error message quotes, in characters.
const QUOTED_CHARS_MAX: usize = 40;

/// A table as written, by key.
pub(crate) type Table = BTreeMap<String, Node>;

/// TOML value with its location: that of its key, or its own if it is an item of a list.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) location: Location,
    pub(crate) value: Value,
}

#[derive(Clone, Debug)]
pub(crate) enum Value {
    Text(String),
    Integer(i64),
    /// Float, or an integer that does not fit 64 bits: no setting accepts such an integer, and an
    /// error shows it as a number.
    Float(f64),
    Flag(bool),
    /// A date, a time or both, as TOML writes it.
    Date(String),
    List(Vec<Node>),
    Table(Table),
}

impl Value {
    pub(super) fn flag(&self) -> Option<bool> {
        if let Self::Flag(flag) = self { Some(*flag) } else { None }
    }

    pub(crate) fn text(&self) -> Option<&str> {
        if let Self::Text(text) = self { Some(text) } else { None }
    }

    pub(super) fn integer(&self) -> Option<i64> {
        if let Self::Integer(number) = self { Some(*number) } else { None }
    }

    /// Returns an integer or a float. An integer must fit 32 bits, which holds for every setting.
    pub(super) fn number(&self) -> Option<f64> {
        if let Self::Float(number) = self {
            return Some(*number);
        }
        self.integer().and_then(|number| i32::try_from(number).ok()).map(f64::from)
    }

    pub(super) fn date(&self) -> Option<&str> {
        if let Self::Date(date) = self { Some(date) } else { None }
    }
}

/// Returns the text of a value. It must not be empty, have control characters or be longer than
/// [`TEXT_BYTES_MAX`].
pub(super) fn plain_text(value: &Value) -> Result<&str, String> {
    let text = value.text().ok_or_else(|| expected(value, "a text in quotes"))?;
    if text.is_empty() {
        return Err("is empty; write a text, or leave the key out".to_owned());
    }
    if text.chars().any(char::is_control) {
        return Err("holds a line break or another control character; remove it".to_owned());
    }
    if text.len() > TEXT_BYTES_MAX {
        return Err(format!("is longer than {TEXT_BYTES_MAX} bytes; shorten it"));
    }
    Ok(text)
}

pub(super) fn expected(value: &Value, want: &str) -> String {
    format!("is {}; write {want}", describe(value))
}

pub(crate) fn describe(value: &Value) -> String {
    match value {
        Value::Text(text) if text.chars().count() <= QUOTED_CHARS_MAX => {
            format!("the text {}", quote(text))
        }
        Value::Text(_) => "a long text".to_owned(),
        Value::Integer(number) => number.to_string(),
        Value::Float(number) => number.to_string(),
        Value::Flag(flag) => flag.to_string(),
        Value::Date(date) => date.clone(),
        Value::List(_) => "a list".to_owned(),
        Value::Table(_) => "a table".to_owned(),
    }
}

/// Parses a whole file and adds its syntax errors to `diagnostics`, the first of each line.
///
/// The parser recovers after an error, so the table holds the rest of the file.
pub(super) fn parse(file: &Arc<Path>, text: &str, diagnostics: &mut Vec<Diagnostic>) -> Table {
    let line_index = LineIndex::new(file, text);
    let (document, errors) = DeTable::parse_recoverable(text);
    let mut syntax_errors: Vec<Diagnostic> = errors
        .iter()
        .map(|error| Diagnostic {
            location: line_index.location(error.span().map_or(0, |span| span.start)),
            message: format!("not valid TOML: {}", error.message()),
        })
        .collect();
    syntax_errors.sort();
    syntax_errors.dedup_by(|later, first| later.location.is_same_line(&first.location));
    diagnostics.append(&mut syntax_errors);
    convert_table(document.into_inner(), &|offset| line_index.location(offset))
}

/// Parses one TOML value from outside a file. Returns `None` if it is not TOML.
pub(super) fn parse_value(text: &str, location: &Location) -> Option<Value> {
    let parsed = DeValue::parse(text).ok()?;
    Some(convert_value(parsed.into_inner(), &|_| location.clone()))
}

fn convert_table(table: DeTable<'_>, locate: &dyn Fn(usize) -> Location) -> Table {
    let node = |(key, inner): (toml::Spanned<_>, toml::Spanned<_>)| {
        let key_location = locate(key.span().start);
        let name = toml::de::DeString::into_owned(key.into_inner());
        (name, Node { location: key_location, value: convert_value(inner.into_inner(), locate) })
    };
    table.into_iter().map(node).collect()
}

fn convert_value(value: DeValue<'_>, locate: &dyn Fn(usize) -> Location) -> Value {
    match value {
        DeValue::String(text) => Value::Text(text.into_owned()),
        DeValue::Integer(number) => convert_integer(&number),
        DeValue::Float(number) => Value::Float(number.as_str().parse().unwrap_or(f64::NAN)),
        DeValue::Boolean(flag) => Value::Flag(flag),
        DeValue::Datetime(date) => Value::Date(date.to_string()),
        DeValue::Array(items) => {
            let node = |item: toml::Spanned<_>| Node {
                location: locate(item.span().start),
                value: convert_value(item.into_inner(), locate),
            };
            Value::List(items.into_iter().map(node).collect())
        }
        DeValue::Table(inner) => Value::Table(convert_table(inner, locate)),
    }
}

fn convert_integer(number: &DeInteger<'_>) -> Value {
    match i64::from_str_radix(number.as_str(), number.radix()) {
        Ok(number) => Value::Integer(number),
        Err(_) => Value::Float(number.as_str().parse().unwrap_or(f64::INFINITY)),
    }
}

/// Converter of byte offsets to lines and columns.
struct LineIndex<'t> {
    file: &'t Arc<Path>,
    text: &'t str,
    starts: Vec<usize>,
}

impl<'t> LineIndex<'t> {
    fn new(file: &'t Arc<Path>, text: &'t str) -> Self {
        let after_breaks = text.match_indices('\n').map(|(offset, _)| offset + 1);
        Self { file, text, starts: std::iter::once(0).chain(after_breaks).collect() }
    }

    fn location(&self, offset: usize) -> Location {
        let line = self.starts.partition_point(|start| *start <= offset);
        let start = self.starts[line - 1];
        let before = self.text.get(start..offset).unwrap_or_default();
        Location::Line { file: Arc::clone(self.file), line, column: before.chars().count() + 1 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse_text(text: &str) -> (Table, Vec<Diagnostic>) {
        let mut diagnostics = Vec::new();
        let table = parse(&Arc::from(Path::new("config.toml")), text, &mut diagnostics);
        (table, diagnostics)
    }

    #[test]
    fn every_key_knows_its_line_and_column() {
        let (table, diagnostics) =
            parse_text("# note\n[restart]\n  max_retries = 3\n\"ключ\" = 1\n");

        assert_eq!(diagnostics, []);
        let Value::Table(restart) = &table["restart"].value else { panic!("a table") };
        assert_eq!(restart["max_retries"].location.to_string(), "config.toml:3:3");
        assert_eq!(restart["ключ"].location.to_string(), "config.toml:4:1");
    }

    #[test]
    fn a_syntax_error_is_reported_with_its_line() {
        let (table, diagnostics) = parse_text("[restart]\nmax_retries = \n[breaker]\n");

        assert!(table.contains_key("breaker"), "what follows the error is read");
        assert_eq!(diagnostics.len(), 1);
        assert!(diagnostics[0].to_string().starts_with("config.toml:2:"), "{}", diagnostics[0]);
    }

    #[test]
    fn a_syntax_error_does_not_quote_the_line() {
        let (_, diagnostics) = parse_text("password = hunter2 or so\n");

        assert!(!diagnostics.is_empty());
        assert!(
            diagnostics.iter().all(|diagnostic| !diagnostic.message.contains("hunter2")),
            "{diagnostics:?}"
        );
    }

    #[test]
    fn a_number_beyond_64_bits_is_still_a_number() {
        let (table, _) = parse_text("a = 99999999999999999999\nb = 0xFFFFFFFFFFFFFFFFFFFF\n");

        assert!(matches!(table["a"].value, Value::Float(_)));
        assert!(matches!(table["b"].value, Value::Float(_)));
    }

    proptest! {
        #[test]
        fn parsing_any_text_never_panics(text in any::<String>()) {
            drop(parse_text(&text));
        }

        #[test]
        fn parsing_toml_like_text_never_panics(text in "([\\[\\]{}=.\"'#,\n a-z0-9_:é-]|\"\"\"|\\[\\[){0,80}") {
            drop(parse_text(&text));
        }
    }
}
