//! Third stage: settings are requested by name, and returned typed, checked and with their origin.
//!
//! A request declares the setting: the requested names are the known keys and variables, and
//! `config show` lists them. A wrong value is recorded and the default is used instead, so that one
//! run finds every error. Scenario files are read in the same way, but without variables.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use cynosure_engine::user_input::{Diagnostic, Location, closest_match, duration_literal};

use super::diagnostic::Diagnostics;
use super::environment::EnvVars;
use super::file::{Node, Table, Value, describe, parse};
use super::merge::{EnvValueForm, Layers};
use super::provider_defaults::DefaultsOrigin;
use super::show::{EffectiveSetting, quote_key};

pub(crate) struct Reader<'e> {
    pub(super) layers: Layers<'e>,
    /// Base folder of relative paths that are not written in a file, but in a variable.
    pub(super) folder: PathBuf,
    pub(super) effective_settings: Vec<EffectiveSetting>,
    pub(super) diagnostics: Vec<Diagnostic>,
}

/// Reads a file that no layer overrides, such as a scenario, with the table readers of the
/// configuration. `read` gets the top of the file and returns `None` if an error leaves no value.
///
/// # Errors
///
/// All errors of the file at once, or its syntax errors, because the others would only follow from
/// them.
pub(crate) fn read_single_file<T>(
    file: &Arc<Path>,
    text: &str,
    read: impl FnOnce(&mut Section<'_, '_>) -> Option<T>,
) -> Result<T, Vec<Diagnostic>> {
    let mut syntax_errors = Vec::new();
    let table = parse(file, text, &mut syntax_errors);
    if !syntax_errors.is_empty() {
        return Err(syntax_errors);
    }
    let environment = EnvVars::default();
    let mut reader = Reader::new(Layers::without_files(&environment), PathBuf::new());
    let value = reader.section("", table, read);
    value.filter(|_| reader.diagnostics.is_empty()).ok_or(reader.diagnostics)
}

impl<'e> Reader<'e> {
    pub(super) fn new(layers: Layers<'e>, folder: PathBuf) -> Self {
        Self { layers, folder, effective_settings: Vec::new(), diagnostics: Vec::new() }
    }

    /// Returns the files read, the settings in effect, and the errors if there are any.
    ///
    /// Other errors on a line with a syntax error are dropped, because they only follow from it.
    pub(super) fn finish(mut self) -> (Vec<PathBuf>, Vec<EffectiveSetting>, Option<Diagnostics>) {
        self.layers.report_unknown_variables(&mut self.diagnostics);
        let syntax_errors = self.layers.syntax_errors;
        self.diagnostics.retain(|diagnostic| {
            !syntax_errors.iter().any(|error| error.location.is_same_line(&diagnostic.location))
        });
        self.diagnostics.extend(syntax_errors);
        (self.layers.files, self.effective_settings, Diagnostics::collect(self.diagnostics))
    }

    /// Removes the table `name` from the tree and returns it; an absent one is empty.
    pub(super) fn table(&mut self, name: &str) -> Table {
        let node = self.layers.tree.remove(name);
        node.and_then(|node| self.as_table(name, node)).unwrap_or_default()
    }

    pub(crate) fn as_table(&mut self, name: &str, node: Node) -> Option<Table> {
        if let Value::Table(table) = node.value {
            return Some(table);
        }
        self.report_error(
            node.location,
            format!("`{name}` is {}; write [{name}] and its keys below it", describe(&node.value)),
        );
        None
    }

    /// Reads one table with `read`, then reports the keys that `read` did not request.
    pub(crate) fn section<T>(
        &mut self,
        name: &str,
        table: Table,
        read: impl FnOnce(&mut Section<'_, '_>) -> T,
    ) -> T {
        let mut section =
            Section { reader: self, name: name.to_owned(), table, known: BTreeSet::new() };
        let value = read(&mut section);
        let Section { table, known, .. } = section;
        self.report_unknown_keys(name, &table, &known);
        value
    }

    fn report_unknown_keys(&mut self, table: &str, unread: &Table, known: &BTreeSet<&'static str>) {
        for (key, node) in unread {
            let remedy = match closest_match(key, known.iter().copied()) {
                Some(suggestion) => format!("did you mean `{suggestion}`?"),
                None => format!(
                    "the keys here are {}",
                    known.iter().copied().collect::<Vec<_>>().join(", ")
                ),
            };
            let name = dotted_key(table, &quote_key(key));
            let message = format!("unknown key `{name}`; {remedy}");
            self.report_error(node.location.clone(), message);
        }
    }

    /// Returns the location of a setting that has been read, if it is written anywhere.
    pub(super) fn location_of(&self, table: &str, key: &str) -> Option<Location> {
        let mut entries = self.effective_settings.iter();
        entries.find(|entry| entry.table == table && entry.key == key)?.location.clone()
    }

    pub(crate) fn report_error(&mut self, location: Location, message: String) {
        self.diagnostics.push(Diagnostic { location, message });
    }
}

/// Returns the dotted name of a key. The top of a file has an empty name.
fn dotted_key(table: &str, key: &str) -> String {
    if table.is_empty() { key.to_owned() } else { format!("{table}.{key}") }
}

/// Table being read. Each key is requested once.
pub(crate) struct Section<'r, 'e> {
    pub(crate) reader: &'r mut Reader<'e>,
    name: String,
    table: Table,
    /// Keys requested so far.
    known: BTreeSet<&'static str>,
}

impl Section<'_, '_> {
    /// True if the key is written in the table and has not been read.
    pub(crate) fn contains(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    /// Removes the value of a key and declares the key as known.
    pub(crate) fn take(&mut self, key: &'static str) -> Option<Node> {
        self.known.insert(key);
        self.table.remove(key)
    }

    /// Discards the keys that have not been read, without an error.
    pub(crate) fn discard_rest(&mut self) {
        self.table.clear();
    }

    /// Reads a value that has no default. Its absence is an error at `location`; `remedy` says what
    /// to write.
    pub(super) fn required<T>(
        &mut self,
        key: &'static str,
        form: EnvValueForm,
        location: &Location,
        remedy: &str,
        read: impl FnOnce(&Node) -> Result<T, String>,
    ) -> Option<(T, Location)> {
        let errors_before = self.reader.diagnostics.len();
        let given = self.given(key, form, read);
        if given.is_none() && errors_before == self.reader.diagnostics.len() {
            let message = format!("`{}` is missing; {remedy}", self.key(key));
            self.reader.report_error(location.clone(), message);
        }
        given
    }

    /// Reads the value of a key; a variable overrides the files. A value that `read` rejects is
    /// reported and counts as not given.
    pub(super) fn given<T>(
        &mut self,
        key: &'static str,
        form: EnvValueForm,
        read: impl FnOnce(&Node) -> Result<T, String>,
    ) -> Option<(T, Location)> {
        let in_file = self.take(key);
        let name = self.key(key);
        let in_environment = self.reader.layers.variable(&name, form, &mut self.reader.diagnostics);
        let node = in_environment.or(in_file)?;
        match read(&node) {
            Ok(value) => Some((value, node.location)),
            Err(error) => {
                self.reader.report_error(node.location, format!("`{name}` {error}"));
                None
            }
        }
    }

    /// Returns the given value, or else the default, and records it for `config show`.
    pub(super) fn given_or_default<T>(
        &mut self,
        key: &'static str,
        given: Option<(T, Location)>,
        default: T,
        write: impl FnOnce(&T) -> String,
    ) -> T {
        let (value, location) = match given {
            Some((value, location)) => (value, Some(location)),
            None => (default, None),
        };
        self.record(key, Some(write(&value)), location);
        value
    }

    /// Records a setting's effective value for `config show`.
    pub(super) fn record(
        &mut self,
        key: &'static str,
        toml_value: Option<String>,
        location: Option<Location>,
    ) {
        self.reader.effective_settings.push(EffectiveSetting {
            table: self.name.clone(),
            key,
            toml_value,
            location,
            origin: None,
        });
    }

    /// Records that the default of a setting comes from a preset or a profile. A setting that is
    /// written anywhere keeps its location.
    pub(super) fn record_origin(&mut self, key: &str, origin: &DefaultsOrigin) {
        let mut entries = self.reader.effective_settings.iter_mut().rev();
        let entry = entries.find(|entry| entry.table == self.name && entry.key == key);
        if let Some(entry) = entry.filter(|entry| entry.location.is_none()) {
            entry.origin = Some(origin.to_string());
        }
    }

    /// Records that a preset or a profile fills what the value of a setting leaves out.
    pub(super) fn record_partial_origin(&mut self, key: &str, origin: String) {
        let mut entries = self.reader.effective_settings.iter_mut().rev();
        let entry = entries.find(|entry| entry.table == self.name && entry.key == key);
        if let Some(entry) = entry {
            entry.origin = Some(origin);
        }
    }

    /// Reports an error in a setting that has been read, at its location.
    pub(super) fn report_setting(&mut self, key: &str, message: String) {
        self.report_settings(&[key], message);
    }

    /// Reports an error of several settings together, at the location of the last one written.
    pub(super) fn report_settings(&mut self, keys: &[&str], message: String) {
        if let Some(location) = self.location_of_last(keys) {
            self.reader.report_error(location, message);
        }
    }

    /// Returns the location of the last of `keys` that was read and is written anywhere.
    fn location_of_last(&self, keys: &[&str]) -> Option<Location> {
        let mut entries = self.reader.effective_settings.iter().rev();
        entries.find_map(|entry| {
            let is_match = entry.table == self.name && keys.contains(&entry.key);
            entry.location.clone().filter(|_| is_match)
        })
    }

    /// Returns the dotted name of a key of this table.
    pub(crate) fn key(&self, key: &str) -> String {
        dotted_key(&self.name, key)
    }

    /// Reports an error if the first duration is longer than the second.
    pub(super) fn check_order(&mut self, [shorter, longer]: [(&'static str, Duration); 2]) {
        if shorter.1 <= longer.1 {
            return;
        }
        let message = format!(
            "`{}` ({}) is longer than `{}` ({}); lower the one or raise the other",
            self.key(shorter.0),
            duration_literal(shorter.1),
            self.key(longer.0),
            duration_literal(longer.1),
        );
        self.report_settings(&[shorter.0, longer.0], message);
    }
}
