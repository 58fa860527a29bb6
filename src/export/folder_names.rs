//! Paths of exported folders: makes the names of a mailbox safe, and distinct.
//!
//! Names are untrusted text. `/` separates their levels. A level becomes one file name without
//! control characters. Two folders whose paths would be the same, also on a disk that ignores case,
//! are distinguished by a number: `Work`, `work~2`.

use std::collections::{BTreeMap, BTreeSet};

use cynosure_engine::{encode_modified_utf7, is_unsafe_for_terminal, truncate_to_bytes};
use serde::{Deserialize, Serialize};

use crate::export::options::{ExportFormat, MaildirLayout};

/// Folder of the messages for which the source names none.
const NO_FOLDER: &str = "No folder";

/// Folder of the earlier versions of documents.
const EARLIER_VERSIONS: &str = "Earlier versions";

/// Name of the inbox, in any case (RFC 9051, section 5.1).
const INBOX: &str = "INBOX";

/// Longest level, in bytes: 255 are possible nearly everywhere, and some are needed for a number
/// and an extension.
const LEVEL_BYTES_MAX: usize = 240;

/// Longest path of a folder, in bytes. Systems allow 4,096 with the names around it.
const PATH_BYTES_MAX: usize = 1_024;

/// Levels of a path. Further ones become part of the last.
const LEVELS_MAX: usize = 16;

/// Folders of one source. The table is in memory and in the state file.
pub(super) const FOLDERS_MAX: usize = 100_000;

/// Numbers that are tried in turn, to distinguish folders of one path.
const SMALL_NUMBER_MAX: usize = 9;

/// Names of a level that have a meaning in a Maildir.
const MAILDIR_NAMES: [&str; 3] = ["cur", "new", "tmp"];

/// Names in the target folder that are not those of mail folders.
const OWN_NAMES: [&str; 3] = ["readme.txt", "lost+found", "cynosure-export"];

/// Characters that no name on Windows contains, beside control characters.
const WINDOWS_CHARACTERS: &[char] = &['\\', ':', '*', '?', '"', '<', '>', '|'];

/// Folder that messages are exported to.
#[derive(Clone, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum FolderKey {
    /// Folder of the mailbox, by its name.
    Named(String),
    /// Folder of the messages for which the source names none.
    NoFolder,
    /// Folder of the earlier versions of documents.
    EarlierVersions,
}

/// Exported folder.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(super) struct ExportedFolder {
    pub(super) key: FolderKey,
    /// Path below the folder of the source, with `/` between its levels: of a folder, or of an mbox
    /// file. Empty for the folder of the source itself.
    pub(super) path: String,
    /// Bytes of an mbox file that count; 0 for other formats.
    #[serde(default)]
    pub(super) length: u64,
}

/// Rules for the paths of folders.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum NamingStyle {
    /// Nested folders, each a Maildir.
    NestedMaildirs,
    /// One level, with dots between the levels of the name, in modified UTF-7.
    MaildirPlusPlus,
    /// Files in nested folders.
    MboxFiles,
    /// Folders in a ZIP file, which may be unpacked on any system.
    ZipFolders,
}

/// Folders of one source, by their keys.
#[derive(Debug)]
pub(super) struct FolderTable {
    style: NamingStyle,
    positions: BTreeMap<FolderKey, usize>,
    /// Paths that are in use, in lower case.
    used_paths: BTreeSet<String>,
}

impl NamingStyle {
    #[must_use]
    pub(super) fn new(format: ExportFormat, layout: MaildirLayout) -> Self {
        match (format, layout) {
            (ExportFormat::Maildir, MaildirLayout::Folders) => Self::NestedMaildirs,
            (ExportFormat::Maildir, MaildirLayout::PlusPlus) => Self::MaildirPlusPlus,
            (ExportFormat::Mbox, _) => Self::MboxFiles,
            (ExportFormat::Zip, _) => Self::ZipFolders,
        }
    }

    /// Returns the path of a folder. From the second of the same path on, `number` distinguishes
    /// them.
    fn path(self, key: &FolderKey, number: usize) -> String {
        let name = match key {
            FolderKey::Named(name) => name.as_str(),
            FolderKey::NoFolder => NO_FOLDER,
            FolderKey::EarlierVersions => EARLIER_VERSIONS,
        };
        let suffix = if number > 1 { format!("~{number}") } else { String::new() };
        let levels = self.safe_levels(name);
        match self {
            Self::NestedMaildirs | Self::ZipFolders => format!("{}{suffix}", levels.join("/")),
            Self::MboxFiles => format!("{}{suffix}.mbox", levels.join("/")),
            Self::MaildirPlusPlus if number == 1 && name.eq_ignore_ascii_case(INBOX) => {
                String::new()
            }
            Self::MaildirPlusPlus => {
                let mut name = levels.join(".");
                while LEVEL_BYTES_MAX < encode_modified_utf7(&name).len() {
                    name.pop();
                }
                format!(".{}{suffix}", encode_modified_utf7(&name))
            }
        }
    }

    fn safe_levels(self, name: &str) -> Vec<String> {
        let parts = name.splitn(LEVELS_MAX, '/');
        let count = parts.clone().count();
        let bytes_max = LEVEL_BYTES_MAX.min(PATH_BYTES_MAX / count.max(1));
        parts.map(|part| self.safe_level(part, bytes_max)).collect()
    }

    fn safe_level(self, part: &str, bytes_max: usize) -> String {
        let is_replaced = |c: char| {
            is_unsafe_for_terminal(c)
                || c == '/'
                || (self == Self::ZipFolders && WINDOWS_CHARACTERS.contains(&c))
                || (self == Self::MaildirPlusPlus && c == '.')
        };
        let level: String = part.chars().map(|c| if is_replaced(c) { '_' } else { c }).collect();
        let level = match level.strip_prefix('.') {
            Some(rest) => format!("_{rest}"),
            None => level,
        };
        let mut level = truncate_to_bytes(&level, bytes_max).to_owned();
        // Windows removes them when it unpacks a ZIP file.
        while self == Self::ZipFolders && level.ends_with(['.', ' ']) {
            level.pop();
        }
        if self.is_reserved(&level) {
            level.push('_');
        }
        level
    }

    fn is_reserved(self, level: &str) -> bool {
        let lower = level.to_lowercase();
        let is_own = OWN_NAMES.contains(&lower.as_str());
        level.is_empty()
            || is_own
            || match self {
                Self::NestedMaildirs => MAILDIR_NAMES.contains(&lower.as_str()),
                // It would be the file of another folder, in which no folders can be.
                Self::MboxFiles => lower.ends_with(".mbox"),
                Self::MaildirPlusPlus | Self::ZipFolders => false,
            }
    }
}

impl FolderTable {
    /// Creates the table of the folders that were exported so far.
    #[must_use]
    pub(super) fn new(style: NamingStyle, folders: &[ExportedFolder]) -> Self {
        let keys = folders.iter().enumerate();
        Self {
            style,
            positions: keys.map(|(position, folder)| (folder.key.clone(), position)).collect(),
            used_paths: folders.iter().map(|folder| folder.path.to_lowercase()).collect(),
        }
    }

    /// Returns the position of a folder in `folders`. Adds the folder if it is not there; `None` if
    /// there are [`FOLDERS_MAX`] already.
    pub(super) fn find_or_add(
        &mut self,
        key: FolderKey,
        folders: &mut Vec<ExportedFolder>,
    ) -> Option<usize> {
        if let Some(position) = self.positions.get(&key) {
            return Some(*position);
        }
        let position = folders.len();
        if position >= FOLDERS_MAX {
            return None;
        }
        // A server may have any number of names for one path, so few numbers are tried in turn.
        // No more paths are in use than there are folders, so one of the others is free.
        let others = position..=position.saturating_add(FOLDERS_MAX);
        let path = (1..=SMALL_NUMBER_MAX)
            .chain(others)
            .map(|number| self.style.path(&key, number))
            .find(|path| !self.used_paths.contains(&path.to_lowercase()))?;
        self.used_paths.insert(path.to_lowercase());
        self.positions.insert(key.clone(), position);
        folders.push(ExportedFolder { key, path, length: 0 });
        Some(position)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const STYLES: [NamingStyle; 4] = [
        NamingStyle::NestedMaildirs,
        NamingStyle::MaildirPlusPlus,
        NamingStyle::MboxFiles,
        NamingStyle::ZipFolders,
    ];

    fn path(style: NamingStyle, name: &str) -> String {
        style.path(&FolderKey::Named(name.to_owned()), 1)
    }

    fn paths(style: NamingStyle, keys: &[FolderKey]) -> Vec<String> {
        let mut folders = Vec::new();
        let mut table = FolderTable::new(style, &folders);
        for key in keys {
            table.find_or_add(key.clone(), &mut folders).unwrap();
        }
        folders.into_iter().map(|folder| folder.path).collect()
    }

    #[test]
    fn ordinary_names_stay_as_they_are() {
        let paths = STYLES.map(|style| path(style, "Work/Año 2026/日本"));
        assert_eq!(
            paths,
            [
                "Work/Año 2026/日本",
                ".Work.A&APE-o 2026.&ZeVnLA-",
                "Work/Año 2026/日本.mbox",
                "Work/Año 2026/日本"
            ]
        );
        assert_eq!(path(NamingStyle::MaildirPlusPlus, "Inbox"), "", "the inbox is at the root");
        assert_eq!(path(NamingStyle::MaildirPlusPlus, "INBOX/a.b"), ".INBOX.a_b");
        assert_eq!(path(NamingStyle::MaildirPlusPlus, "Q&A"), ".Q&-A");
        assert_eq!(path(NamingStyle::NestedMaildirs, "INBOX"), "INBOX");
    }

    #[test]
    fn names_that_lead_elsewhere_are_made_safe() {
        for (name, expected) in [
            ("", "_"),
            ("/", "_/_"),
            ("..", "_."),
            ("../../etc", "_./_./etc"),
            ("/etc/passwd", "_/etc/passwd"),
            (".hidden", "_hidden"),
            ("a\0b\u{1b}[2J\n\u{202e}", "a_b_[2J__"),
            ("cur", "cur_"),
            ("A/New/tmp", "A/New_/tmp_"),
            ("README.txt", "README.txt_"),
        ] {
            assert_eq!(path(NamingStyle::NestedMaildirs, name), expected, "{name:?}");
        }
        assert_eq!(path(NamingStyle::MboxFiles, "a.mbox/b"), "a.mbox_/b.mbox");
        assert_eq!(path(NamingStyle::MaildirPlusPlus, "cynosure-export"), ".cynosure-export_");
        assert_eq!(path(NamingStyle::ZipFolders, "C:\\a?. /b"), "C__a_/b");
    }

    #[test]
    fn folders_of_one_path_are_numbered() {
        let named = |name: &str| FolderKey::Named(name.to_owned());
        let keys = [
            named("Work"),
            named("work"),
            named("WORK"),
            FolderKey::NoFolder,
            named("No folder"),
            FolderKey::EarlierVersions,
            named("work~2"),
        ];

        assert_eq!(
            paths(NamingStyle::MboxFiles, &keys),
            [
                "Work.mbox",
                "work~2.mbox",
                "WORK~3.mbox",
                "No folder.mbox",
                "No folder~2.mbox",
                "Earlier versions.mbox",
                "work~2~2.mbox",
            ]
        );
        let keys = [named("INBOX"), named("inbox")];
        assert_eq!(paths(NamingStyle::MaildirPlusPlus, &keys), ["", ".inbox~2"]);
    }

    #[test]
    fn many_folders_of_one_path_are_all_distinct() {
        let control_characters = ('\0'..' ').map(String::from);
        let keys: Vec<_> = control_characters.map(FolderKey::Named).collect();
        let found = paths(NamingStyle::NestedMaildirs, &keys);
        let distinct: BTreeSet<&String> = found.iter().collect();
        assert_eq!(distinct.len(), 32);
        assert_eq!(found[..2], ["_", "_~2"]);
    }

    #[test]
    fn a_known_folder_keeps_its_path() {
        let named = |name: &str| FolderKey::Named(name.to_owned());
        let mut folders = Vec::new();
        let mut table = FolderTable::new(NamingStyle::ZipFolders, &folders);
        assert_eq!(table.find_or_add(named("a"), &mut folders), Some(0));
        assert_eq!(table.find_or_add(named("A"), &mut folders), Some(1));

        let mut table = FolderTable::new(NamingStyle::ZipFolders, &folders);

        assert_eq!(table.find_or_add(named("A"), &mut folders), Some(1));
        assert_eq!(table.find_or_add(named("b"), &mut folders), Some(2));
        assert_eq!(folders[1].path, "A~2");
    }

    proptest! {
        #[test]
        fn every_path_is_safe_and_no_two_are_the_same(
            names in prop::collection::vec(
                prop_oneof!["[a.A/~2]{0,5}", ".{0,30}", "[x/]{300,600}", "é{200,300}", any::<String>()],
                1..6,
            ),
        ) {
            let keys: BTreeSet<FolderKey> = names.into_iter().map(FolderKey::Named).collect();
            let keys: Vec<FolderKey> = keys.into_iter().collect();
            for style in STYLES {
                let found = paths(style, &keys);
                let distinct: BTreeSet<String> =
                    found.iter().map(|path| path.to_lowercase()).collect();
                prop_assert_eq!(distinct.len(), keys.len());
                for path in found.iter().filter(|path| !path.is_empty()) {
                    prop_assert!(path.len() <= PATH_BYTES_MAX + 4 * LEVELS_MAX, "{}", path.len());
                    for level in path.split('/') {
                        prop_assert!(!level.is_empty() && level.len() <= 255, "{path:?}");
                        let is_hidden = level.starts_with('.');
                        prop_assert_eq!(is_hidden, style == NamingStyle::MaildirPlusPlus);
                        prop_assert!(!level.trim_matches('.').is_empty(), "{path:?}");
                        prop_assert!(!level.chars().any(char::is_control), "{path:?}");
                    }
                }
            }
        }
    }
}
