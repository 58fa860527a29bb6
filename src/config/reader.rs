//! Third stage, the reading half: settings are asked for by name, and come typed, checked and with their origin.
//!
//! Asking is what declares a setting: the names asked for are the known keys and variables, and `config show` lists
//! what was asked. A wrong value is recorded and the default stands in, so that one run finds every mistake.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use super::ask::describe;
use super::diagnostic::{Diagnostic, Diagnostics};
use super::file::{Node, Table, Value};
use super::location::Location;
use super::merge::{Layers, Variable};
use super::show::{EffectiveSetting, quote_key};
use super::suggest::closest_match;
use super::units::duration_literal;

pub(super) struct Reader<'e> {
    pub(super) layers: Layers<'e>,
    /// The folder from which relative paths count where no file names them.
    pub(super) folder: PathBuf,
    pub(super) entries: Vec<EffectiveSetting>,
    pub(super) mistakes: Vec<Diagnostic>,
}

impl<'e> Reader<'e> {
    pub(super) fn new(layers: Layers<'e>, folder: PathBuf) -> Self {
        Self { layers, folder, entries: Vec::new(), mistakes: Vec::new() }
    }

    /// Returns the files read and the settings in effect, unless something is wrong.
    ///
    /// A line with a syntax error has no other mistakes: they would only follow from it.
    pub(super) fn finish(mut self) -> (Vec<PathBuf>, Vec<EffectiveSetting>, Option<Diagnostics>) {
        self.layers.report_unknown_variables(&mut self.mistakes);
        let syntax_errors = self.layers.syntax_errors;
        self.mistakes.retain(|mistake| {
            !syntax_errors.iter().any(|error| error.location.is_same_line(&mistake.location))
        });
        self.mistakes.extend(syntax_errors);
        (self.layers.files, self.entries, Diagnostics::collect(self.mistakes))
    }

    /// Takes the table `name` out of the tree; an absent one is empty.
    pub(super) fn table(&mut self, name: &str) -> Table {
        let node = self.layers.tree.remove(name);
        node.and_then(|node| self.as_table(name, node)).unwrap_or_default()
    }

    pub(super) fn as_table(&mut self, name: &str, node: Node) -> Option<Table> {
        if let Value::Table(table) = node.value {
            return Some(table);
        }
        self.refuse(
            node.place,
            format!("`{name}` is {}; write [{name}] and its keys below it", describe(&node.value)),
        );
        None
    }

    /// Reads one table through `ask`, then reports the keys nothing asked for.
    pub(super) fn section<T>(
        &mut self,
        name: &str,
        table: Table,
        ask: impl FnOnce(&mut Section<'_, '_>) -> T,
    ) -> T {
        let mut section =
            Section { reader: self, name: name.to_owned(), table, known: BTreeSet::new() };
        let read = ask(&mut section);
        let Section { table, known, .. } = section;
        self.report_unknown_keys(name, &table, &known);
        read
    }

    fn report_unknown_keys(&mut self, table: &str, left: &Table, known: &BTreeSet<&'static str>) {
        for (key, node) in left {
            let remedy = match closest_match(key, known.iter().copied()) {
                Some(known) => format!("did you mean `{known}`?"),
                None => format!(
                    "the keys here are {}",
                    known.iter().copied().collect::<Vec<_>>().join(", ")
                ),
            };
            let what = format!("unknown key `{table}.{}`; {remedy}", quote_key(key));
            self.refuse(node.place.clone(), what);
        }
    }

    pub(super) fn refuse(&mut self, place: Location, what: String) {
        self.mistakes.push(Diagnostic { location: place, message: what });
    }
}

/// One table being read. Every method asks for one key, once.
pub(super) struct Section<'r, 'e> {
    pub(super) reader: &'r mut Reader<'e>,
    name: String,
    table: Table,
    known: BTreeSet<&'static str>,
}

impl Section<'_, '_> {
    /// Asks for a value without a default; its absence is a mistake at `place` that says `missing`.
    pub(super) fn required<T>(
        &mut self,
        key: &'static str,
        form: Variable,
        place: &Location,
        missing: &str,
        read: impl FnOnce(&Node) -> Result<T, String>,
    ) -> Option<(T, Location)> {
        let mistakes = self.reader.mistakes.len();
        let given = self.given(key, form, read);
        if given.is_none() && mistakes == self.reader.mistakes.len() {
            self.reader.refuse(place.clone(), format!("`{}` is missing; {missing}", self.key(key)));
        }
        given
    }

    /// Looks a key up, variables first. A value that `read` refuses is recorded and counts as not given.
    pub(super) fn given<T>(
        &mut self,
        key: &'static str,
        form: Variable,
        read: impl FnOnce(&Node) -> Result<T, String>,
    ) -> Option<(T, Location)> {
        self.known.insert(key);
        let name = self.key(key);
        let in_file = self.table.remove(key);
        let in_environment = self.reader.layers.variable(&name, form, &mut self.reader.mistakes);
        let node = in_environment.or(in_file)?;
        match read(&node) {
            Ok(value) => Some((value, node.place)),
            Err(complaint) => {
                self.reader.refuse(node.place, format!("`{name}` {complaint}"));
                None
            }
        }
    }

    /// Chooses between what was given and the default, and enters it.
    pub(super) fn settle<T>(
        &mut self,
        key: &'static str,
        given: Option<(T, Location)>,
        default: T,
        write: impl FnOnce(&T) -> String,
    ) -> T {
        let (value, place) = match given {
            Some((value, place)) => (value, Some(place)),
            None => (default, None),
        };
        self.enter(key, Some(write(&value)), place);
        value
    }

    /// Notes a setting's effective value for `config show`.
    pub(super) fn enter(
        &mut self,
        key: &'static str,
        literal: Option<String>,
        place: Option<Location>,
    ) {
        self.reader.entries.push(EffectiveSetting {
            table: self.name.clone(),
            key,
            toml_value: literal,
            location: place,
        });
    }

    /// Refuses a setting that was asked for, where it is written.
    pub(super) fn refuse_entry(&mut self, key: &str, what: String) {
        self.refuse_written(&[key], what);
    }

    /// Refuses settings that do not go together, where the last of them is written.
    pub(super) fn refuse_written(&mut self, keys: &[&str], what: String) {
        if let Some(place) = self.written_at(keys) {
            self.reader.refuse(place, what);
        }
    }

    /// Where the last of some settings was written that was written at all.
    fn written_at(&self, keys: &[&str]) -> Option<Location> {
        let mut entries = self.reader.entries.iter().rev();
        entries.find_map(|entry| {
            let is_one = entry.table == self.name && keys.contains(&entry.key);
            entry.location.clone().filter(|_| is_one)
        })
    }

    /// Returns the dotted name of a key of this table.
    pub(super) fn key(&self, key: &str) -> String {
        format!("{}.{key}", self.name)
    }

    /// Refuses a pair of settings the first of which must not be longer than the second.
    pub(super) fn in_order(&mut self, [shorter, longer]: [(&'static str, Duration); 2]) {
        if shorter.1 <= longer.1 {
            return;
        }
        let what = format!(
            "`{}` ({}) is longer than `{}` ({}); lower the one or raise the other",
            self.key(shorter.0),
            duration_literal(shorter.1),
            self.key(longer.0),
            duration_literal(longer.1),
        );
        self.refuse_written(&[shorter.0, longer.0], what);
    }
}
