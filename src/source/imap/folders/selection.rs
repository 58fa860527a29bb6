//! Selection of the folders to extract.

use cynosure_engine::user_input::closest_match;
use cynosure_engine::{Cause, Failure};

use crate::source::imap::folders::listed_folder::ListedFolder;
use crate::source::imap::options::FolderFilter;
use crate::source::imap::wire::FolderName;

/// Name of the inbox. Its case has no meaning (RFC 3501 §5.1).
const INBOX: &str = "INBOX";

/// Character of a pattern that matches any text, also the separator of levels.
const WILDCARD: char = '*';

/// Attribute of Gmail's folder of all messages but those in the next two (RFC 6154). Its name is
/// in the user's language.
const ALL_MAIL: &str = "\\all";

/// Attributes of the folders that contain every message of Gmail once. Its other folders are labels
/// of the same messages.
const GMAIL_FOLDERS: [&str; 3] = [ALL_MAIL, "\\junk", "\\trash"];

/// Folders to extract.
#[derive(Debug, Eq, PartialEq)]
pub(super) struct FolderSelection {
    pub(super) folders: Vec<ListedFolder>,
    /// True if Gmail does not list its folder of all messages, so that every label is listed.
    pub(super) is_all_mail_hidden: bool,
}

impl FolderSelection {
    /// Returns the name of the selected folder of all messages, if there is one.
    pub(super) fn all_mail(&self) -> Option<FolderName> {
        let found = self.folders.iter().find(|folder| folder.has_attribute(ALL_MAIL));
        found.map(|folder| folder.name.clone())
    }
}

/// Selects the folders that the filter includes and does not exclude. Without `include`, these are
/// all folders, and for Gmail those that together contain every message once.
///
/// # Errors
/// [`Cause::NotFound`] if `include` names a folder that does not exist, or if no folder remains: a
/// listing without folders would succeed without a message.
pub(super) fn select_folders(
    listed: &[ListedFolder],
    filter: &FolderFilter,
    is_gmail: bool,
) -> Result<FolderSelection, Failure> {
    let is_named = |name: &String| listed.iter().any(|folder| is_match(name, folder));
    let mut names = filter.include.iter().filter(|name| !name.contains(WILDCARD));
    if let Some(unknown) = names.find(|name| !is_named(name)) {
        return Err(unknown_folder(unknown, listed));
    }
    let is_gmail_default = is_gmail && filter.include.is_empty();
    let is_excluded =
        |folder: &ListedFolder| filter.exclude.iter().any(|name| is_match(name, folder));
    let is_all_mail = |folder: &&ListedFolder| folder.has_attribute(ALL_MAIL);
    let has_all_mail = listed.iter().any(|folder| is_all_mail(&folder));
    // Without it, only the labels contain the messages.
    let should_use_all_mail = listed.iter().filter(is_all_mail).any(|folder| !is_excluded(folder));
    let is_included = |folder: &ListedFolder| {
        if is_gmail_default && should_use_all_mail {
            return GMAIL_FOLDERS.iter().any(|attribute| folder.has_attribute(attribute));
        }
        filter.include.is_empty() || filter.include.iter().any(|name| is_match(name, folder))
    };

    let is_selected = |folder: &&ListedFolder| is_included(folder) && !is_excluded(folder);
    let folders: Vec<ListedFolder> = listed.iter().filter(is_selected).cloned().collect();
    if folders.is_empty() {
        let known = display_paths(listed);
        let message =
            format!("`folders` and `exclude` select no folder of the server; it has {known}");
        return Err(Failure::new(Cause::NotFound, message));
    }
    Ok(FolderSelection { folders, is_all_mail_hidden: is_gmail_default && !has_all_mail })
}

fn unknown_folder(name: &str, listed: &[ListedFolder]) -> Failure {
    let paths: Vec<String> = listed.iter().map(ListedFolder::path).collect();
    let nearest = closest_match(name, paths.iter().map(String::as_str))
        .map_or_else(|| ".".to_owned(), |nearest| format!("; did you mean \"{nearest}\"?"));
    let known = display_paths(listed);
    let message = format!("folder \"{name}\" is not on the server{nearest} It has {known}");
    Failure::new(Cause::NotFound, message)
}

fn display_paths(listed: &[ListedFolder]) -> String {
    let paths: Vec<String> = listed.iter().map(|folder| format!("\"{}\"", folder.path())).collect();
    paths.join(", ")
}

/// Returns true if a name or a pattern of the configuration means the folder: by its name on the
/// server, or with `/` between the levels.
fn is_match(pattern: &str, folder: &ListedFolder) -> bool {
    let name = folder.name.as_text();
    (name == INBOX && pattern.eq_ignore_ascii_case(INBOX))
        || matches_pattern(pattern, name)
        || matches_pattern(pattern, &folder.path())
}

fn matches_pattern(pattern: &str, name: &str) -> bool {
    let Some((prefix, rest)) = pattern.split_once(WILDCARD) else { return pattern == name };
    let Some(mut remaining) = name.strip_prefix(prefix) else { return false };
    let mut parts = rest.split(WILDCARD);
    let suffix = parts.next_back().unwrap_or_default();
    for part in parts {
        // The first occurrence leaves the most text for the parts after it.
        let Some((_, after)) = remaining.split_once(part) else { return false };
        remaining = after;
    }
    remaining.ends_with(suffix)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::source::imap::folders::listed_folder::tests::listed_folder;

    fn filter(include: &[&str], exclude: &[&str]) -> FolderFilter {
        let to_names = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
        FolderFilter { include: to_names(include), exclude: to_names(exclude) }
    }

    fn own_server() -> Vec<ListedFolder> {
        ["INBOX", "Archive.2023", "Archive.2024", "Sent Items", "Trash"]
            .iter()
            .map(|name| listed_folder(&[], ".", name))
            .collect()
    }

    fn gmail(has_all_mail: bool) -> Vec<ListedFolder> {
        let folder = |attribute: &str, name: &str| listed_folder(&[attribute], "/", name);
        let mut folders = vec![
            folder("\\hasnochildren", "INBOX"),
            folder("\\junk", "[Gmail]/Spam"),
            folder("\\sent", "[Gmail]/Gesendet"),
            folder("\\trash", "[Gmail]/Papierkorb"),
        ];
        if has_all_mail {
            folders.push(folder("\\all", "[Gmail]/Alle Nachrichten"));
        }
        folders
    }

    fn names(result: Result<FolderSelection, Failure>) -> Vec<String> {
        let folders = result.unwrap().folders;
        folders.iter().map(|folder| folder.name.as_text().to_owned()).collect()
    }

    #[test]
    fn all_folders_are_selected_without_a_filter() {
        let selected = names(select_folders(&own_server(), &filter(&[], &["Trash"]), false));

        assert_eq!(selected, ["INBOX", "Archive.2023", "Archive.2024", "Sent Items"]);
    }

    #[test]
    fn names_and_patterns_select_folders() {
        for (include, exclude, expected) in [
            (&["Archive/*"][..], &["*/2023"][..], &["Archive.2024"][..]),
            (&["inbox"], &[], &["INBOX"]),
            (&["Archive/2024", "Trash"], &[], &["Archive.2024", "Trash"]),
            (&["Archive.2024"], &[], &["Archive.2024"]),
            (&["*"], &["Arch*", "INBOX", "trash"], &["Sent Items", "Trash"]),
            (&["Nothing*", "Trash"], &[], &["Trash"]),
        ] {
            let selected = names(select_folders(&own_server(), &filter(include, exclude), false));
            assert_eq!(selected, expected, "{include:?} {exclude:?}");
        }
    }

    #[test]
    fn an_unknown_name_is_an_error_that_lists_the_folders() {
        let result = select_folders(&own_server(), &filter(&["Sent Itms"], &[]), false);

        let failure = result.unwrap_err();
        assert_eq!(failure.cause, Cause::NotFound);
        assert_eq!(
            failure.message,
            "folder \"Sent Itms\" is not on the server; did you mean \"Sent Items\"? It has \
             \"INBOX\", \"Archive/2023\", \"Archive/2024\", \"Sent Items\", \"Trash\""
        );
    }

    #[test]
    fn a_filter_that_selects_nothing_is_an_error() {
        for filter in [filter(&["Nothing*"], &[]), filter(&[], &["*"])] {
            let failure = select_folders(&own_server(), &filter, false).unwrap_err();
            assert_eq!(failure.cause, Cause::NotFound, "{failure}");
        }
    }

    #[test]
    fn gmail_is_extracted_from_the_folders_that_contain_everything_once() {
        let default = FolderFilter::default();

        assert_eq!(
            names(select_folders(&gmail(true), &default, true)),
            ["[Gmail]/Spam", "[Gmail]/Papierkorb", "[Gmail]/Alle Nachrichten"]
        );
        assert_eq!(names(select_folders(&gmail(true), &filter(&["INBOX"], &[]), true)), ["INBOX"]);
        assert_eq!(names(select_folders(&gmail(true), &default, false)).len(), 5);
    }

    #[test]
    fn every_label_is_selected_if_gmail_hides_all_mail() {
        let selected = |filter| select_folders(&gmail(false), &filter, true).unwrap();

        let hidden = selected(FolderFilter::default());
        assert_eq!((hidden.folders.len(), hidden.is_all_mail_hidden), (4, true));
        assert!(!selected(filter(&["INBOX"], &[])).is_all_mail_hidden);
    }

    #[test]
    fn every_label_is_selected_if_all_mail_is_excluded() {
        let without_all_mail = filter(&[], &["*/Alle Nachrichten"]);

        let selection = select_folders(&gmail(true), &without_all_mail, true).unwrap();

        assert_eq!((selection.folders.len(), selection.is_all_mail_hidden), (4, false));
    }

    /// Matches by trying every length for a wildcard.
    fn matches_slowly(pattern: &[char], name: &[char]) -> bool {
        match pattern.split_first() {
            None => name.is_empty(),
            Some((&WILDCARD, rest)) => {
                (0..=name.len()).any(|length| matches_slowly(rest, &name[length..]))
            }
            Some((first, rest)) => name.first() == Some(first) && matches_slowly(rest, &name[1..]),
        }
    }

    proptest! {
        #[test]
        fn a_pattern_matches_as_if_every_length_were_tried(
            pattern in "[ab*]{0,6}",
            name in "[ab]{0,8}",
        ) {
            let to_chars = |text: &str| text.chars().collect::<Vec<_>>();
            let expected = matches_slowly(&to_chars(&pattern), &to_chars(&name));

            prop_assert_eq!(matches_pattern(&pattern, &name), expected);
        }
    }
}
