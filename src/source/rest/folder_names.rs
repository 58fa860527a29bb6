//! Names of the folders of documents, which rows and documents name by ids.

use std::collections::{BTreeMap, BTreeSet};

use cynosure_engine::ListedDocument;
use cynosure_engine::rest::{FolderNameRules, RestRow, scalar_text};

/// Id in place of the folders of a document that is in none.
pub(super) const NO_FOLDER_ID: &str = "";

/// Maximum levels of a name. Folders that contain each other would have no end.
const LEVELS_MAX: usize = 64;

/// Maximum number of ids that are remembered although the server lists no folder with them. Each
/// other one costs a request.
const UNLISTED_MAX: usize = 10_000;

/// Names of folders, as the server has listed them last.
#[derive(Debug, Default)]
pub(super) struct FolderNames {
    folders: BTreeMap<String, NamedFolder>,
    /// Ids that the server does not list. Each is its own name.
    unlisted: BTreeSet<String>,
    /// False if the names are read again before they are used.
    is_current: bool,
    /// True if the server refused to list them when they were read last.
    is_refused: bool,
}

/// Folder with its name.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
struct NamedFolder {
    /// Name of the last level. `None` for a row that is left out: its id names no folder.
    name: Option<String>,
    /// Id of the folder that contains it.
    parent: Option<String>,
}

impl FolderNames {
    /// Adds the folder of a row.
    pub(super) fn add(&mut self, rules: &FolderNameRules, row: &RestRow<'_>) {
        let text = |value| scalar_text(value).filter(|text| !text.is_empty());
        let name = rules.name.as_ref().and_then(|path| text(path.first(row.value)?));
        let parent = rules.parent.as_ref().and_then(|path| text(path.first(row.value)?));
        // Cut, because the name of a folder repeats those of the levels above.
        let name = ListedDocument::cut_folder_name(name.as_ref().unwrap_or(&row.id)).to_owned();
        self.folders.insert(row.id.clone(), NamedFolder { name: Some(name), parent });
    }

    /// Adds the id of a row that is left out, unless a folder has it.
    pub(super) fn add_skipped(&mut self, id: String) {
        self.folders.entry(id).or_default();
    }

    /// Returns the number of folders, and of rows that are left out.
    pub(super) fn count(&self) -> usize {
        self.folders.len()
    }

    /// Lets the names be read again before they are used.
    pub(super) fn expire(&mut self) {
        self.is_current = false;
    }

    /// True if the names are current, and have each of the ids, or the server refuses to list more.
    pub(super) fn has_current(&self, ids: &BTreeSet<String>) -> bool {
        self.is_current && (self.is_refused || ids.iter().all(|id| self.is_known(id)))
    }

    /// Keeps the folders that are known, because the server refuses to list them. Other ids are
    /// their own names until the names expire. Returns true if it did not refuse them before.
    #[must_use]
    pub(super) fn refuse(&mut self) -> bool {
        self.is_current = true;
        !std::mem::replace(&mut self.is_refused, true)
    }

    /// Replaces the folders by those that the server lists now. Ids that it does not list are their
    /// own names until the names expire.
    pub(super) fn update(&mut self, listed: Self, ids: &BTreeSet<String>) {
        if !self.is_current {
            self.unlisted.clear();
        }
        self.folders = listed.folders;
        (self.is_current, self.is_refused) = (true, false);
        for id in ids {
            if !self.is_known(id) && self.unlisted.len() < UNLISTED_MAX {
                self.unlisted.insert(id.clone());
            }
        }
    }

    /// Returns the name of a folder, with `/` between its levels. `None` if the id names no folder.
    pub(super) fn full_name(&self, id: &str) -> Option<String> {
        let Some(folder) = self.folders.get(id) else {
            return Some(id.to_owned()).filter(|id| id != NO_FOLDER_ID);
        };
        let mut levels = vec![folder.name.as_deref()?];
        let (mut known, mut parent) = (BTreeSet::from([id]), folder.parent.as_deref());
        while let Some(id) = parent
            && levels.len() < LEVELS_MAX
            && known.insert(id)
            && let Some(folder) = self.folders.get(id)
            && let Some(name) = &folder.name
        {
            levels.push(name);
            parent = folder.parent.as_deref();
        }
        levels.reverse();
        Some(levels.join("/"))
    }

    /// Returns the names of folders, sorted and each once. `none` is that of a document without
    /// any.
    pub(super) fn resolve(&self, ids: &[String], none: Option<&str>) -> Vec<String> {
        let names: Vec<String> = ids.iter().filter_map(|id| self.full_name(id)).collect();
        if names.is_empty() {
            return none.map(str::to_owned).into_iter().collect();
        }
        ListedDocument::kept_folders(&names).into_iter().map(str::to_owned).collect()
    }

    fn is_known(&self, id: &str) -> bool {
        id == NO_FOLDER_ID || self.folders.contains_key(id) || self.unlisted.contains(id)
    }
}

#[cfg(test)]
mod tests {
    use cynosure_engine::rest::JsonPath;
    use serde_json::json;

    use super::*;

    fn rules() -> FolderNameRules {
        let path = |text| Some(JsonPath::parse(text).unwrap());
        FolderNameRules { name: path("/name"), parent: path("/in") }
    }

    /// Returns this many ids.
    fn ids(count: usize) -> BTreeSet<String> {
        (0..count).map(|id| id.to_string()).collect()
    }

    #[test]
    fn only_so_many_unlisted_ids_are_remembered() {
        let mut names = FolderNames::default();
        assert!(!names.has_current(&ids(0)), "nothing was read");

        names.update(FolderNames::default(), &ids(UNLISTED_MAX + 1));

        let remembered = ids(UNLISTED_MAX + 1).into_iter().filter(|id| names.is_known(id));
        assert_eq!(remembered.count(), UNLISTED_MAX);
        names.expire();
        names.update(FolderNames::default(), &ids(1));
        assert!(names.has_current(&ids(1)) && !names.has_current(&ids(2)));
        assert_eq!(names.full_name("7").as_deref(), Some("7"));
    }

    #[test]
    fn refused_names_are_kept_until_they_expire() {
        let mut names = FolderNames::default();
        let mut listed = FolderNames::default();
        listed.add_skipped("0".to_owned());
        names.update(listed, &ids(1));

        assert!(names.refuse(), "it is the first refusal");
        assert!(names.has_current(&ids(9)), "nothing more is asked for");
        assert_eq!((names.full_name("0"), names.full_name("8")), (None, Some("8".to_owned())));

        names.expire();
        assert!(!names.has_current(&ids(0)));
        assert!(!names.refuse(), "it was refused before");
        names.update(FolderNames::default(), &ids(0));
        assert!(!names.has_current(&ids(1)));
        assert!(names.refuse(), "it was listed meanwhile");
    }

    #[test]
    fn folders_that_contain_each_other_have_a_name() {
        let mut names = FolderNames::default();
        let mut add = |id: &str, parent: &str| {
            let value = json!({"in": parent});
            let row = RestRow {
                id: id.to_owned(),
                document: None,
                keep: Vec::new(),
                labels: Vec::new(),
                folders: None,
                size: None,
                size_estimate: None,
                value: &value,
            };
            names.add(&rules(), &row);
        };
        add("self", "self");
        add("a", "b");
        add("b", "a");
        add("root", "not listed");
        for level in 0..100 {
            add(&format!("{level}"), &format!("{}", level + 1));
        }

        let name = |id| names.full_name(id).unwrap();
        assert_eq!(["self", "a", "b", "root"].map(name), ["self", "b/a", "a/b", "root"]);
        assert_eq!(name("0").split('/').count(), LEVELS_MAX);
        assert!(name("0").ends_with("/1/0"));
        assert_eq!(names.full_name(NO_FOLDER_ID), None);
    }
}
