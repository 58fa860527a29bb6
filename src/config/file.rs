//! First stage: TOML as written, every value with its place.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use toml::de::{DeInteger, DeTable, DeValue};

use super::diagnostic::Diagnostic;
use super::location::Location;

/// A table as written, by key.
pub(crate) type Table = BTreeMap<String, Node>;

/// A value and where it was written: a table's or a value's place is its key, a list item's is its own.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) place: Location,
    pub(crate) value: Value,
}

#[derive(Clone, Debug)]
pub(crate) enum Value {
    Text(String),
    Integer(i64),
    /// Also an integer that does not fit 64 bits: no setting takes one, and it is shown as a number.
    Float(f64),
    Flag(bool),
    /// A date, a time or both, as TOML writes it.
    Date(String),
    List(Vec<Node>),
    Table(Table),
}

impl Value {
    pub(crate) fn text(&self) -> Option<&str> {
        if let Self::Text(text) = self { Some(text) } else { None }
    }

    pub(crate) fn integer(&self) -> Option<i64> {
        if let Self::Integer(number) = self { Some(*number) } else { None }
    }

    /// A number of either kind; a whole one must fit 32 bits, which every setting does.
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

/// Reads a whole file, adding its syntax errors to `mistakes`, the first of each line.
///
/// The parser recovers behind an error, so the table holds the rest of the file.
pub(crate) fn parse(file: &Arc<Path>, text: &str, mistakes: &mut Vec<Diagnostic>) -> Table {
    let lines = Lines::new(file, text);
    let (document, errors) = DeTable::parse_recoverable(text);
    let mut wrong: Vec<Diagnostic> = errors
        .iter()
        .map(|error| Diagnostic {
            location: lines.place(error.span().map_or(0, |span| span.start)),
            message: format!("not valid TOML: {}", error.message()),
        })
        .collect();
    wrong.sort();
    wrong.dedup_by(|later, first| later.location.is_same_line(&first.location));
    mistakes.append(&mut wrong);
    table(document.into_inner(), &|offset| lines.place(offset))
}

/// Reads one TOML value that was given outside a file, or `None` if it is not TOML.
pub(super) fn parse_value(text: &str, place: &Location) -> Option<Value> {
    let parsed = DeValue::parse(text).ok()?;
    Some(value(parsed.into_inner(), &|_| place.clone()))
}

fn table(table: DeTable<'_>, place: &dyn Fn(usize) -> Location) -> Table {
    let node = |(key, inner): (toml::Spanned<_>, toml::Spanned<_>)| {
        let place_of_key = place(key.span().start);
        let name = toml::de::DeString::into_owned(key.into_inner());
        (name, Node { place: place_of_key, value: value(inner.into_inner(), place) })
    };
    table.into_iter().map(node).collect()
}

fn value(value: DeValue<'_>, place: &dyn Fn(usize) -> Location) -> Value {
    match value {
        DeValue::String(text) => Value::Text(text.into_owned()),
        DeValue::Integer(number) => integer(&number),
        DeValue::Float(number) => Value::Float(number.as_str().parse().unwrap_or(f64::NAN)),
        DeValue::Boolean(flag) => Value::Flag(flag),
        DeValue::Datetime(date) => Value::Date(date.to_string()),
        DeValue::Array(items) => {
            let node = |item: toml::Spanned<_>| Node {
                place: place(item.span().start),
                value: self::value(item.into_inner(), place),
            };
            Value::List(items.into_iter().map(node).collect())
        }
        DeValue::Table(inner) => Value::Table(table(inner, place)),
    }
}

fn integer(number: &DeInteger<'_>) -> Value {
    match i64::from_str_radix(number.as_str(), number.radix()) {
        Ok(number) => Value::Integer(number),
        Err(_) => Value::Float(number.as_str().parse().unwrap_or(f64::INFINITY)),
    }
}

/// Turns byte offsets into lines and columns.
struct Lines<'t> {
    file: &'t Arc<Path>,
    text: &'t str,
    starts: Vec<usize>,
}

impl<'t> Lines<'t> {
    fn new(file: &'t Arc<Path>, text: &'t str) -> Self {
        let after_breaks = text.match_indices('\n').map(|(offset, _)| offset + 1);
        Self { file, text, starts: std::iter::once(0).chain(after_breaks).collect() }
    }

    fn place(&self, offset: usize) -> Location {
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

    fn read(text: &str) -> (Table, Vec<Diagnostic>) {
        let mut mistakes = Vec::new();
        let table = parse(&Arc::from(Path::new("config.toml")), text, &mut mistakes);
        (table, mistakes)
    }

    #[test]
    fn every_key_knows_its_line_and_column() {
        let (table, mistakes) = read("# note\n[restart]\n  max_retries = 3\n\"ключ\" = 1\n");

        assert_eq!(mistakes, []);
        let Value::Table(restart) = &table["restart"].value else { panic!("a table") };
        assert_eq!(restart["max_retries"].place.to_string(), "config.toml:3:3");
        assert_eq!(restart["ключ"].place.to_string(), "config.toml:4:1");
    }

    #[test]
    fn a_syntax_error_is_a_mistake_with_its_line() {
        let (table, mistakes) = read("[restart]\nmax_retries = \n[breaker]\n");

        assert!(table.contains_key("breaker"), "what follows the error is read");
        assert_eq!(mistakes.len(), 1);
        assert!(mistakes[0].to_string().starts_with("config.toml:2:"), "{}", mistakes[0]);
    }

    #[test]
    fn a_syntax_error_does_not_quote_the_line() {
        let (_, mistakes) = read("password = hunter2 or so\n");

        assert!(!mistakes.is_empty());
        assert!(
            mistakes.iter().all(|mistake| !mistake.message.contains("hunter2")),
            "{mistakes:?}"
        );
    }

    #[test]
    fn a_number_beyond_64_bits_is_still_a_number() {
        let (table, _) = read("a = 99999999999999999999\nb = 0xFFFFFFFFFFFFFFFFFFFF\n");

        assert!(matches!(table["a"].value, Value::Float(_)));
        assert!(matches!(table["b"].value, Value::Float(_)));
    }

    proptest! {
        #[test]
        fn no_text_panics_the_reader(text in any::<String>()) {
            drop(read(&text));
        }

        #[test]
        fn nothing_that_looks_like_toml_panics_the_reader(text in "([\\[\\]{}=.\"'#,\n a-z0-9_:é-]|\"\"\"|\\[\\[){0,80}") {
            drop(read(&text));
        }
    }
}
