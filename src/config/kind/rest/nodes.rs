//! Tables of a source as written: its own, and those of its profile that it does not replace.

use std::collections::{BTreeMap, BTreeSet};

use cynosure_engine::user_input::Location;

use crate::config::file::{Node, Table, Value, plain_text};
use crate::config::kind::rest::loaded::LoadedProfile;
use crate::config::literal::write_value;
use crate::config::merge::EnvValueForm;
use crate::config::reader::Section;
use crate::config::show::quote;

/// Key of a source for the table `[account]` of a profile: in a source, `account` is its owner.
pub(super) const ACCOUNT_REQUEST_KEY: &str = "account_request";

/// Tables that a source may have, in the order in which `config show` prints them: the key in the
/// source, and that in a profile.
const SOURCE_TABLES: [(&str, &str); 16] = [
    ("headers", "headers"),
    ("query", "query"),
    ("ok", "ok"),
    (ACCOUNT_REQUEST_KEY, "account"),
    ("pin", "pin"),
    ("parts", "parts"),
    ("folders", "folders"),
    ("list", "list"),
    ("documents", "documents"),
    ("fetch", "fetch"),
    ("changes", "changes"),
    ("sweep", "sweep"),
    ("again", "again"),
    ("error", "error"),
    ("pace", "pace"),
    ("quota", "quota"),
];

/// Value of a table, with its dotted name for errors.
#[derive(Debug)]
pub(super) struct TableNode {
    pub(super) name: String,
    pub(super) node: Node,
}

/// Tables in effect, by key.
#[derive(Debug)]
pub(super) struct TableNodes {
    tables: BTreeMap<&'static str, TableNode>,
    /// Location of the source.
    pub(super) source_location: Location,
    /// Named quota that the source selects, with its location.
    pub(super) quota_preset: Option<(String, Location)>,
}

impl TableNodes {
    /// Reads the tables of the source and takes the others from the profile, and records them for
    /// `config show`.
    pub(super) fn collect(
        section: &mut Section<'_, '_>,
        profile: &mut LoadedProfile,
        source_location: &Location,
    ) -> Self {
        let mut nodes = Self {
            tables: BTreeMap::new(),
            source_location: source_location.clone(),
            quota_preset: None,
        };
        for (source_key, key) in SOURCE_TABLES {
            let name = section.key(source_key);
            let given = section.given(source_key, EnvValueForm::Toml, |node| Ok(node.clone()));
            let in_profile = profile.take(key);
            match (given, in_profile) {
                (Some((node, location)), in_profile) => {
                    section.record(source_key, Some(write_value(&node.value)), Some(location));
                    if key == "quota" && node.value.text().is_some() {
                        nodes.select_quota(section, &name, &node);
                        nodes.tables.extend(
                            in_profile.map(|node| (key, TableNode { name: key.to_owned(), node })),
                        );
                    } else {
                        nodes.insert(key, name, node);
                    }
                }
                (None, Some(node)) => {
                    profile.record(section, source_key, write_value(&node.value), &node.location);
                    nodes.insert(key, key.to_owned(), node);
                }
                (None, None) => {}
            }
        }
        nodes
    }

    fn insert(&mut self, key: &'static str, name: String, node: Node) {
        self.tables.insert(key, TableNode { name, node });
    }

    fn select_quota(&mut self, section: &mut Section<'_, '_>, name: &str, node: &Node) {
        match plain_text(&node.value) {
            Ok(preset) => self.quota_preset = Some((preset.to_owned(), node.location.clone())),
            Err(error) => {
                section.reader.report_error(node.location.clone(), format!("`{name}` {error}"));
            }
        }
    }

    /// True if there is this table.
    pub(super) fn has(&self, key: &str) -> bool {
        self.tables.contains_key(key)
    }

    /// True if there is this table, with this key.
    pub(super) fn has_key(&self, table: &str, key: &str) -> bool {
        self.entries(table).is_some_and(|entries| entries.contains_key(key))
    }

    /// Returns the names in `keep` of a table.
    pub(super) fn kept_names(&self, table: &str) -> BTreeSet<&str> {
        let keep = self.entries(table).and_then(|entries| entries.get("keep"));
        match keep.map(|node| &node.value) {
            Some(Value::Table(names)) => names.keys().map(String::as_str).collect(),
            Some(_) | None => BTreeSet::new(),
        }
    }

    /// Returns the location of a table, or that of the source.
    pub(super) fn location(&self, key: &str) -> Location {
        let location = self.tables.get(key).map(|table| &table.node.location);
        location.unwrap_or(&self.source_location).clone()
    }

    fn entries(&self, table: &str) -> Option<&Table> {
        if let Value::Table(entries) = &self.tables.get(table)?.node.value {
            return Some(entries);
        }
        None
    }

    /// Removes a table and returns it.
    pub(super) fn take(&mut self, key: &str) -> Option<TableNode> {
        self.tables.remove(key)
    }
}

/// Writes a list of texts for errors.
pub(super) fn quoted_names<'n>(names: impl IntoIterator<Item = &'n str>) -> String {
    names.into_iter().map(quote).collect::<Vec<_>>().join(", ")
}
