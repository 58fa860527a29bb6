//! Folders and their status, as `LIST` and `STATUS` report them (RFC 3501 §7.2.2, §7.2.4).

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use crate::source::imap::wire::{FolderName, Response, Value, attribute};

/// Separator of the levels of a name in the configuration. A server may use another one.
const CONFIGURED_DELIMITER: &str = "/";

/// Attributes of names that hold no messages: levels of the hierarchy, in lower case.
const NO_MESSAGES: [&str; 2] = ["\\noselect", "\\nonexistent"];

/// Folder that may hold messages.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct ListedFolder {
    pub(super) name: FolderName,
    /// Separator of the levels of the name; `None` if the server has only one level.
    delimiter: Option<String>,
    /// Attributes in lower case, such as `\all`.
    attributes: BTreeSet<String>,
}

/// Number of messages of a folder, and its numbering.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::source::imap) struct FolderStatus {
    pub(in crate::source::imap) messages: u64,
    pub(in crate::source::imap) uid_validity: u32,
    /// UID that the next message will have at the earliest.
    pub(in crate::source::imap) uid_next: u32,
    /// Number of the last change; 0 if the server has none (RFC 7162).
    pub(in crate::source::imap) highest_mod_seq: u64,
}

impl ListedFolder {
    /// Returns the folders of a list, each name once, in the order of the server. Names without
    /// messages are left out.
    pub(super) fn from_responses(responses: &[Response]) -> Vec<Self> {
        let mut names = BTreeSet::new();
        let listed = responses.iter().filter_map(|response| match response {
            Response::Data { name, values, .. } if name == "LIST" => Self::from_values(values),
            Response::Data { .. }
            | Response::Tagged { .. }
            | Response::Status(_)
            | Response::Continuation(_) => None,
        });
        let has_messages =
            |folder: &Self| !NO_MESSAGES.iter().any(|attribute| folder.has_attribute(attribute));
        listed.filter(|folder| has_messages(folder) && names.insert(folder.name.clone())).collect()
    }

    /// Returns the name as the configuration writes it, with `/` between its levels.
    pub(super) fn path(&self) -> String {
        match &self.delimiter {
            Some(delimiter) => self.name.as_text().replace(delimiter, CONFIGURED_DELIMITER),
            None => self.name.as_text().to_owned(),
        }
    }

    /// Returns true for an attribute in lower case, with its backslash.
    pub(super) fn has_attribute(&self, attribute: &str) -> bool {
        self.attributes.contains(attribute)
    }

    fn from_values(values: &[Value]) -> Option<Self> {
        let [attributes, delimiter, name, ..] = values else { return None };
        let to_lower = |value: &Value| value.as_text().map(|text| text.to_ascii_lowercase());
        Some(Self {
            name: FolderName::from_wire(name.as_bytes()?),
            delimiter: delimiter.as_text().filter(|text| !text.is_empty()).map(Cow::into_owned),
            attributes: attributes.as_list()?.iter().filter_map(to_lower).collect(),
        })
    }
}

impl FolderStatus {
    /// Returns the status of each folder with all the numbers that a listing needs. A name in
    /// another case is another folder.
    pub(super) fn read_all(responses: &[Response]) -> BTreeMap<FolderName, Self> {
        responses.iter().filter_map(Self::from_response).collect()
    }

    /// Returns the folder and its status; `None` for any other response.
    pub(super) fn from_response(response: &Response) -> Option<(FolderName, Self)> {
        match response {
            Response::Data { name, values, .. } if name == "STATUS" => {
                let [folder, attributes, ..] = values.as_slice() else { return None };
                let folder = FolderName::from_wire(folder.as_bytes()?);
                Some((folder, Self::from_values(attributes.as_list()?)?))
            }
            Response::Data { .. }
            | Response::Tagged { .. }
            | Response::Status(_)
            | Response::Continuation(_) => None,
        }
    }

    /// Returns true if the folder may hold messages.
    pub(in crate::source::imap) fn has_messages(&self) -> bool {
        0 < self.messages && 1 < self.uid_next
    }

    fn from_values(values: &[Value]) -> Option<Self> {
        let number = |name: &str| attribute(values, name)?.as_number();
        let status = Self {
            messages: number("MESSAGES")?,
            uid_validity: to_uid(number("UIDVALIDITY")?),
            uid_next: to_uid(number("UIDNEXT")?),
            highest_mod_seq: number("HIGHESTMODSEQ").unwrap_or_default(),
        };
        // Messages below a UIDNEXT of 0 or 1 would never be listed.
        (status.messages == 0 || status.has_messages()).then_some(status)
    }
}

/// Returns a number of 32 bits, as all numbers of messages are. A server that reports a larger
/// UIDNEXT, because the largest UID is in use, means the largest one.
fn to_uid(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Returns the folder of a `LIST` response.
    pub(in crate::source::imap::folders) fn listed_folder(
        attributes: &[&str],
        delimiter: &str,
        name: &str,
    ) -> ListedFolder {
        ListedFolder {
            name: FolderName::from_text(name),
            delimiter: Some(delimiter.to_owned()),
            attributes: attributes.iter().map(|&attribute| attribute.to_owned()).collect(),
        }
    }

    fn atom(text: &str) -> Value {
        Value::Atom(text.to_owned())
    }

    fn list_response(attributes: &[&str], delimiter: Value, name: &str) -> Response {
        let attributes = attributes.iter().map(|attribute| atom(attribute)).collect();
        let values = vec![Value::List(attributes), delimiter, Value::Text(name.into())];
        Response::Data { number: None, name: "LIST".to_owned(), values }
    }

    fn status_response(folder: &str, attributes: &[&str]) -> Response {
        let attributes = attributes.iter().map(|text| atom(text)).collect();
        let values = vec![atom(folder), Value::List(attributes)];
        Response::Data { number: None, name: "STATUS".to_owned(), values }
    }

    #[test]
    fn names_without_messages_are_left_out() {
        let slash = || Value::Text(b"/".to_vec());
        let responses = [
            list_response(&["\\HasNoChildren"], slash(), "inbox"),
            list_response(&["\\Noselect"], slash(), "[Gmail]"),
            list_response(&["\\NonExistent"], slash(), "Old"),
            list_response(&["\\All"], slash(), "[Gmail]/Alle"),
            list_response(&[], slash(), "[Gmail]/Alle"),
            list_response(&[], Value::Nil, "Flat"),
        ];

        let folders = ListedFolder::from_responses(&responses);

        let names: Vec<&str> = folders.iter().map(|folder| folder.name.as_text()).collect();
        assert_eq!(names, ["INBOX", "[Gmail]/Alle", "Flat"]);
        assert!(folders[1].has_attribute("\\all"));
        assert_eq!(folders[2].path(), "Flat");
    }

    #[test]
    fn a_path_has_slashes_between_its_levels() {
        assert_eq!(listed_folder(&[], ".", "Work.2024").path(), "Work/2024");
        assert_eq!(listed_folder(&[], "/", "Work/2024").path(), "Work/2024");
    }

    #[test]
    fn a_status_belongs_to_the_folder_of_that_case() {
        let responses = [
            status_response("work", &["MESSAGES", "1", "UIDNEXT", "2", "UIDVALIDITY", "3"]),
            status_response("Work", &["UIDNEXT", "8", "uidvalidity", "9", "MESSAGES", "7"]),
            status_response("Inbox", &["MESSAGES", "4", "UIDNEXT", "4294967296"]),
            status_response("Odd", &["MESSAGES", "4", "UIDNEXT", "0", "UIDVALIDITY", "3"]),
            status_response("New", &["MESSAGES", "0", "UIDNEXT", "1", "UIDVALIDITY", "3"]),
            status_response("End", &["MESSAGES", "1", "UIDNEXT", "4294967296", "UIDVALIDITY", "3"]),
        ];
        let statuses = FolderStatus::read_all(&responses);
        let find = |name: &str| statuses.get(&FolderName::from_text(name)).copied();

        let expected =
            FolderStatus { messages: 7, uid_validity: 9, uid_next: 8, highest_mod_seq: 0 };
        assert_eq!(find("Work"), Some(expected));
        assert_eq!(find("WORK"), None);
        assert_eq!(find("INBOX"), None, "the status has no UIDVALIDITY");
        assert_eq!(find("Odd"), None, "no message has a UID below the UIDNEXT");
        assert_eq!(find("New").map(|status| status.has_messages()), Some(false));
        assert_eq!(find("End").map(|status| status.uid_next), Some(u32::MAX));
    }

    #[test]
    fn an_unused_folder_has_no_messages() {
        let status = |messages, uid_next| FolderStatus {
            messages,
            uid_validity: 1,
            uid_next,
            highest_mod_seq: 0,
        };

        assert!(status(1, 2).has_messages());
        assert!(!status(0, 9).has_messages());
        assert!(!status(1, 1).has_messages());
    }
}
