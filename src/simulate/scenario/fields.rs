//! The questions a table of a scenario can be asked.
//!
//! As in the configuration, asking is what declares a key, and a wrong value is noted and goes as not given,
//! so that one reading finds every mistake.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::time::Duration;

use crate::config::{
    Diagnostic, Location, Node, Table, Value, closest_match, describe, duration_literal,
    parse_duration,
};

/// The longest text of a scenario, in characters: it stands on one line.
const TEXT_LEN_MAX: usize = 100;

pub(super) struct ScenarioTable<'m> {
    /// What stands before its keys: `server.`, or nothing at the top.
    prefix: String,
    location: Location,
    table: Table,
    known_keys: BTreeSet<&'static str>,
    diagnostics: &'m mut Vec<Diagnostic>,
}

impl<'m> ScenarioTable<'m> {
    pub(super) fn new(
        prefix: &str,
        place: Location,
        table: Table,
        mistakes: &'m mut Vec<Diagnostic>,
    ) -> Self {
        Self {
            prefix: prefix.to_owned(),
            location: place,
            table,
            known_keys: BTreeSet::new(),
            diagnostics: mistakes,
        }
    }

    /// Notes the keys that nothing asked for.
    pub(super) fn report_unknown_keys(self) {
        for (key, node) in self.table {
            let known = || self.known_keys.iter().copied();
            let remedy = match closest_match(&key, known()) {
                Some(meant) => format!("did you mean `{meant}`?"),
                None => format!("the keys here are {}", known().collect::<Vec<_>>().join(", ")),
            };
            let what = format!("unknown key `{}{key}`; {remedy}", self.prefix);
            self.diagnostics.push(Diagnostic { location: node.place, message: what });
        }
    }

    /// Where the table stands.
    pub(super) fn location(&self) -> Location {
        self.location.clone()
    }

    /// Declares keys that are not asked for this time.
    pub(super) fn allow_keys(&mut self, keys: &[&'static str]) {
        self.known_keys.extend(keys);
    }

    /// Leaves the keys that are left unjudged.
    pub(super) fn discard_remaining(&mut self) {
        self.table.clear();
    }

    pub(super) fn contains(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    /// Notes that the table as a whole is wrong.
    pub(super) fn report_error(&mut self, what: String) {
        self.diagnostics.push(Diagnostic { location: self.location.clone(), message: what });
    }

    /// Gives up a key that has no place beside another.
    pub(super) fn reject_key(&mut self, key: &'static str, why: &str) {
        self.known_keys.insert(key);
        if let Some(node) = self.table.remove(key) {
            self.diagnostics.push(Diagnostic {
                location: node.place,
                message: format!("`{}{key}` {why}", self.prefix),
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
        let want = format!("a whole number from {} to {}", range.start(), range.end());
        self.required(key, &want, |value| {
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
        let want = format!("\"90s\", \"5m\", \"1h\" or whole seconds, from {least} to {most}");
        self.required(key, &want, |value| {
            let whole = value.integer().and_then(|seconds| u64::try_from(seconds).ok());
            let written = value.text().and_then(parse_duration);
            written.or_else(|| whole.map(Duration::from_secs)).filter(|span| range.contains(span))
        })
    }

    pub(super) fn parsed<T: std::str::FromStr>(
        &mut self,
        key: &'static str,
        want: &str,
    ) -> Option<T> {
        self.required(key, want, |value| value.text()?.parse().ok())
    }

    /// Asks for one of a few words.
    pub(super) fn choice<T: Copy>(
        &mut self,
        key: &'static str,
        words: &[(&'static str, T)],
    ) -> Option<T> {
        let named: Vec<String> = words.iter().map(|(word, _)| format!("{word:?}")).collect();
        self.required(key, &format!("one of {}", named.join(", ")), |value| {
            let text = value.text()?;
            words.iter().find(|(word, _)| *word == text).map(|(_, meant)| *meant)
        })
    }

    /// Asks for a value that may be left out; `read` is then not asked at all.
    pub(super) fn or_default<T>(
        &mut self,
        key: &'static str,
        default: T,
        read: impl FnOnce(&mut Self, &'static str) -> Option<T>,
    ) -> T {
        self.known_keys.insert(key);
        if self.contains(key) { read(self, key).unwrap_or(default) } else { default }
    }

    /// Takes a table; its absence is a mistake where there is a reason for one.
    pub(super) fn take_table(
        &mut self,
        key: &'static str,
        why_needed: Option<&str>,
    ) -> Option<ScenarioTable<'_>> {
        self.known_keys.insert(key);
        match self.table.remove(key) {
            Some(Node { place, value: Value::Table(table) }) => {
                Some(ScenarioTable::new(&format!("{key}."), place, table, self.diagnostics))
            }
            Some(node) => {
                let what = format!(
                    "`{key}` is {}; write [{key}] and its keys below it",
                    describe(&node.value)
                );
                self.diagnostics.push(Diagnostic { location: node.place, message: what });
                None
            }
            None => {
                if let Some(why) = why_needed {
                    self.report_error(format!("[{key}] is missing; {why}"));
                }
                None
            }
        }
    }

    /// Takes a list of tables, which may be empty, and reads each.
    pub(super) fn read_tables<T>(
        &mut self,
        key: &'static str,
        mut read: impl FnMut(&mut ScenarioTable<'_>) -> Option<T>,
    ) -> Vec<(Location, T)> {
        self.known_keys.insert(key);
        let Some(node) = self.table.remove(key) else { return Vec::new() };
        let Value::List(items) = node.value else {
            let what = format!(
                "`{key}` is {}; write [[{key}]], with two brackets, once for each",
                describe(&node.value)
            );
            self.diagnostics.push(Diagnostic { location: node.place, message: what });
            return Vec::new();
        };
        let mut found = Vec::new();
        for item in items {
            let Value::Table(table) = item.value else {
                let what = format!("`{key}` holds {}; write [[{key}]]", describe(&item.value));
                self.diagnostics.push(Diagnostic { location: item.place, message: what });
                continue;
            };
            let place = item.place.clone();
            let mut fields =
                ScenarioTable::new(&format!("{key}."), item.place, table, self.diagnostics);
            let value = read(&mut fields);
            fields.report_unknown_keys();
            found.extend(value.map(|value| (place, value)));
        }
        found
    }

    fn required<T>(
        &mut self,
        key: &'static str,
        want: &str,
        read: impl FnOnce(&Value) -> Option<T>,
    ) -> Option<T> {
        self.known_keys.insert(key);
        let Some(node) = self.table.remove(key) else {
            let what = format!("`{}{key}` is missing; write {want}", self.prefix);
            self.report_error(what);
            return None;
        };
        let value = read(&node.value);
        if value.is_none() {
            let what = format!("`{}{key}` is {}; write {want}", self.prefix, describe(&node.value));
            self.diagnostics.push(Diagnostic { location: node.place, message: what });
        }
        value
    }
}
