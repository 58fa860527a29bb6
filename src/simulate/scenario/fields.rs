//! Reader for one table of a scenario file.
//!
//! Reading a key also declares it as known. A wrong value is reported and then treated as missing,
//! so that one pass finds every error. The configuration is read in the same way.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::time::Duration;

use crate::config::{
    Diagnostic, Location, Node, Table, Value, closest_match, describe, duration_literal,
    parse_duration,
};

/// Maximum length of a text in characters, because it is shown on one line.
const TEXT_LEN_MAX: usize = 100;

/// One table of a scenario file, with the keys that were read so far.
pub(super) struct ScenarioTable<'m> {
    /// Prefix of the keys in messages: `server.`, or empty at the top level.
    prefix: String,
    location: Location,
    table: Table,
    known_keys: BTreeSet<&'static str>,
    diagnostics: &'m mut Vec<Diagnostic>,
}

impl<'m> ScenarioTable<'m> {
    pub(super) fn new(
        prefix: &str,
        location: Location,
        table: Table,
        diagnostics: &'m mut Vec<Diagnostic>,
    ) -> Self {
        Self {
            prefix: prefix.to_owned(),
            location,
            table,
            known_keys: BTreeSet::new(),
            diagnostics,
        }
    }

    /// Reports the keys that were not read.
    pub(super) fn report_unknown_keys(self) {
        for (key, node) in self.table {
            let known_keys = || self.known_keys.iter().copied();
            let remedy = match closest_match(&key, known_keys()) {
                Some(suggestion) => format!("did you mean `{suggestion}`?"),
                None => {
                    format!("the keys here are {}", known_keys().collect::<Vec<_>>().join(", "))
                }
            };
            let message = format!("unknown key `{}{key}`; {remedy}", self.prefix);
            self.diagnostics.push(Diagnostic { location: node.location, message });
        }
    }

    /// Returns the location of the table in the file.
    pub(super) fn location(&self) -> Location {
        self.location.clone()
    }

    /// Declares keys as known without reading them.
    pub(super) fn allow_keys(&mut self, keys: &[&'static str]) {
        self.known_keys.extend(keys);
    }

    /// Discards the remaining keys without an error.
    pub(super) fn discard_remaining(&mut self) {
        self.table.clear();
    }

    pub(super) fn contains(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    /// Reports an error of the table as a whole.
    pub(super) fn report_error(&mut self, message: String) {
        self.diagnostics.push(Diagnostic { location: self.location.clone(), message });
    }

    /// Discards a key that is not allowed here and reports it with the reason.
    pub(super) fn reject_key(&mut self, key: &'static str, reason: &str) {
        self.known_keys.insert(key);
        if let Some(node) = self.table.remove(key) {
            self.diagnostics.push(Diagnostic {
                location: node.location,
                message: format!("`{}{key}` {reason}", self.prefix),
            });
        }
    }

    pub(super) fn text(&mut self, key: &'static str, example: &str) -> Option<String> {
        self.required(key, &format!("a line of text such as {example:?}"), |value| {
            let text = value.text()?;
            let fits = text.chars().count() <= TEXT_LEN_MAX && !text.chars().any(char::is_control);
            (fits && !text.trim().is_empty()).then(|| text.to_owned())
        })
    }

    pub(super) fn count(&mut self, key: &'static str, range: RangeInclusive<u64>) -> Option<u64> {
        let expected = format!("a whole number from {} to {}", range.start(), range.end());
        self.required(key, &expected, |value| {
            let number = value.integer().and_then(|number| u64::try_from(number).ok());
            number.filter(|number| range.contains(number))
        })
    }

    pub(super) fn duration(
        &mut self,
        key: &'static str,
        range: RangeInclusive<Duration>,
    ) -> Option<Duration> {
        let [least, most] = [range.start(), range.end()].map(|limit| duration_literal(*limit));
        let expected = format!("\"90s\", \"5m\", \"1h\" or whole seconds, from {least} to {most}");
        self.required(key, &expected, |value| {
            let seconds = value.integer().and_then(|number| u64::try_from(number).ok());
            let duration = value.text().and_then(parse_duration);
            let duration = duration.or_else(|| seconds.map(Duration::from_secs));
            duration.filter(|duration| range.contains(duration))
        })
    }

    pub(super) fn parsed<T: std::str::FromStr>(
        &mut self,
        key: &'static str,
        expected: &str,
    ) -> Option<T> {
        self.required(key, expected, |value| value.text()?.parse().ok())
    }

    /// Reads one of a fixed set of words.
    pub(super) fn choice<T: Copy>(
        &mut self,
        key: &'static str,
        words: &[(&'static str, T)],
    ) -> Option<T> {
        let quoted: Vec<String> = words.iter().map(|(word, _)| format!("{word:?}")).collect();
        self.required(key, &format!("one of {}", quoted.join(", ")), |value| {
            let text = value.text()?;
            words.iter().find(|(word, _)| *word == text).map(|(_, choice)| *choice)
        })
    }

    /// Reads an optional value. `read` is called only if the key is there.
    pub(super) fn or_default<T>(
        &mut self,
        key: &'static str,
        default: T,
        read: impl FnOnce(&mut Self, &'static str) -> Option<T>,
    ) -> T {
        self.known_keys.insert(key);
        if self.contains(key) { read(self, key).unwrap_or(default) } else { default }
    }

    /// Removes and returns a table. Its absence is an error if a `purpose` is given.
    pub(super) fn take_table(
        &mut self,
        key: &'static str,
        purpose: Option<&str>,
    ) -> Option<ScenarioTable<'_>> {
        self.known_keys.insert(key);
        match self.table.remove(key) {
            Some(Node { location, value: Value::Table(table) }) => {
                Some(ScenarioTable::new(&format!("{key}."), location, table, self.diagnostics))
            }
            Some(node) => {
                let message = format!(
                    "`{key}` is {}; write [{key}] and its keys below it",
                    describe(&node.value)
                );
                self.diagnostics.push(Diagnostic { location: node.location, message });
                None
            }
            None => {
                if let Some(purpose) = purpose {
                    self.report_error(format!("[{key}] is missing; {purpose}"));
                }
                None
            }
        }
    }

    /// Removes a list of tables, which may be missing, and reads each table.
    pub(super) fn read_tables<T>(
        &mut self,
        key: &'static str,
        mut read: impl FnMut(&mut ScenarioTable<'_>) -> Option<T>,
    ) -> Vec<(Location, T)> {
        self.known_keys.insert(key);
        let Some(node) = self.table.remove(key) else { return Vec::new() };
        let Value::List(items) = node.value else {
            let message = format!(
                "`{key}` is {}; write [[{key}]], with two brackets, once for each",
                describe(&node.value)
            );
            self.diagnostics.push(Diagnostic { location: node.location, message });
            return Vec::new();
        };
        let mut values = Vec::new();
        for item in items {
            let Value::Table(table) = item.value else {
                let message = format!("`{key}` holds {}; write [[{key}]]", describe(&item.value));
                self.diagnostics.push(Diagnostic { location: item.location, message });
                continue;
            };
            let location = item.location.clone();
            let mut fields =
                ScenarioTable::new(&format!("{key}."), item.location, table, self.diagnostics);
            let value = read(&mut fields);
            fields.report_unknown_keys();
            values.extend(value.map(|value| (location, value)));
        }
        values
    }

    fn required<T>(
        &mut self,
        key: &'static str,
        expected: &str,
        read: impl FnOnce(&Value) -> Option<T>,
    ) -> Option<T> {
        self.known_keys.insert(key);
        let Some(node) = self.table.remove(key) else {
            let message = format!("`{}{key}` is missing; write {expected}", self.prefix);
            self.report_error(message);
            return None;
        };
        let value = read(&node.value);
        if value.is_none() {
            let message =
                format!("`{}{key}` is {}; write {expected}", self.prefix, describe(&node.value));
            self.diagnostics.push(Diagnostic { location: node.location, message });
        }
        value
    }
}
