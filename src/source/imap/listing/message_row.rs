//! Messages of a folder, as a `FETCH` without bodies names them.

use std::fmt;

use chrono::{DateTime, NaiveDate, Utc};
use cynosure_engine::{BlobId, DocumentId, DocumentLocation, ItemId, ListedDocument};

use crate::source::imap::connection::Connection;
use crate::source::imap::folders::GMAIL_EXTENSION;
use crate::source::imap::wire::{FolderName, Value, attribute};

/// Capability of servers that name the contents of messages (RFC 8474).
const OBJECT_IDS: &str = "OBJECTID";

/// Longest id, in bytes (RFC 8474 §4).
const ID_BYTES_MAX: usize = 255;

/// Name of the size of a message. Servers may report any number (hMailServer, Exchange).
const SIZE: &str = "RFC822.SIZE";

/// Largest size that is believed, in bytes: that of the longest string (RFC 3501 §9, `number`).
const SIZE_MAX: u64 = 0xffff_ffff;

/// Labels of Gmail, which are its folders
/// (<https://developers.google.com/workspace/gmail/imap/imap-extensions#access_to_labels_x-gm-labels>).
const GMAIL_LABELS: &str = "X-GM-LABELS";

/// Folders that the system labels of Gmail stand for. Another one, such as `\Starred`, is a mark.
const GMAIL_SYSTEM_LABELS: [(&str, &str); 4] =
    [("\\Inbox", "INBOX"), ("\\Sent", "Sent"), ("\\Draft", "Drafts"), ("\\Drafts", "Drafts")];

/// Format of INTERNALDATE (RFC 3501 §9, `date-time`), such as ` 7-Jul-1996 02:44:25 -0700`.
const DATE_FORMAT: &str = "%d-%b-%Y %H:%M:%S %z";

/// Attributes to ask for, displayed as in the command.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct RowAttributes {
    ids: ContentIds,
    has_size: bool,
    /// First day of receipt (UTC) of the messages to list.
    since: Option<NaiveDate>,
}

/// Ids that a server gives to contents and threads. A server that does not advertise them rejects
/// the whole command.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum ContentIds {
    Gmail,
    /// EMAILID and THREADID (RFC 8474).
    Objects,
    None,
}

/// Names of the attributes with the ids, and the prefixes of the ids that are listed.
struct IdNames {
    content: &'static str,
    content_prefix: &'static str,
    thread: &'static str,
    thread_prefix: &'static str,
}

/// Message in the answer, with what the server says about it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct MessageRow {
    content: Option<String>,
    thread: Option<String>,
    size: Option<u64>,
    received: Option<DateTime<Utc>>,
    /// Folders by the labels of the message, which may be none; `None` if the server has no labels.
    label_folders: Option<Vec<String>>,
}

impl RowAttributes {
    /// Returns the attributes that the server knows. Gmail's own ids come first, so that its
    /// documents keep their ids if it ever offers others.
    pub(super) fn new(connection: &Connection, since: Option<NaiveDate>) -> Self {
        let ids = if connection.has_capability(GMAIL_EXTENSION) {
            ContentIds::Gmail
        } else if connection.has_capability(OBJECT_IDS) {
            ContentIds::Objects
        } else {
            ContentIds::None
        };
        Self { ids, has_size: true, since }
    }

    /// Returns true if the server names contents, so that a document may be in several folders.
    pub(super) fn has_content_ids(self) -> bool {
        self.ids != ContentIds::None
    }

    /// Returns the attributes without the size, for which a server may have to read the message.
    pub(super) fn without_size(self) -> Self {
        Self { has_size: false, ..self }
    }

    /// Reads the values of a `FETCH`. Returns the UID and the row; `None` without a UID, because
    /// the server may report a change of any message at any time.
    pub(super) fn read_row(&self, values: &[Value]) -> Option<(u32, MessageRow)> {
        let values = values.first()?.as_list()?;
        let uid = u32::try_from(attribute(values, "UID")?.as_number()?).ok()?;
        let mut row = MessageRow { size: read_size(values), ..MessageRow::default() };
        if let Some(names) = self.ids.names() {
            row.content = read_id(values, names.content, names.content_prefix);
            row.thread = read_id(values, names.thread, names.thread_prefix);
        }
        if self.ids == ContentIds::Gmail {
            row.label_folders = attribute(values, GMAIL_LABELS).and_then(read_label_folders);
        }
        if self.since.is_some() {
            row.received = attribute(values, "INTERNALDATE").and_then(read_date);
        }
        Some((uid, row))
    }

    /// Returns true if the message is to be listed. One without a valid date is.
    pub(super) fn selects(&self, row: &MessageRow) -> bool {
        match (self.since, row.received) {
            (Some(since), Some(received)) => since <= received.date_naive(),
            _ => true,
        }
    }
}

impl fmt::Display for RowAttributes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(UID")?;
        if self.has_size {
            write!(f, " {SIZE}")?;
        }
        if let Some(IdNames { content, thread, .. }) = self.ids.names() {
            write!(f, " {content} {thread}")?;
        }
        if self.ids == ContentIds::Gmail {
            write!(f, " {GMAIL_LABELS}")?;
        }
        if self.since.is_some() {
            f.write_str(" INTERNALDATE")?;
        }
        f.write_str(")")
    }
}

impl ContentIds {
    fn names(self) -> Option<IdNames> {
        match self {
            Self::Gmail => Some(IdNames {
                content: "X-GM-MSGID",
                content_prefix: "gm:",
                thread: "X-GM-THRID",
                thread_prefix: "gm-thread:",
            }),
            Self::Objects => Some(IdNames {
                content: "EMAILID",
                content_prefix: "em:",
                thread: "THREADID",
                thread_prefix: "thread:",
            }),
            Self::None => None,
        }
    }
}

impl MessageRow {
    /// Adds what another response says about the same message: a change of flags is reported with
    /// the UID and without the ids, also before the answer.
    pub(super) fn merge(&mut self, other: Self) {
        self.content = self.content.take().or(other.content);
        self.thread = self.thread.take().or(other.thread);
        self.size = self.size.or(other.size);
        self.received = self.received.or(other.received);
        self.label_folders = self.label_folders.take().or(other.label_folders);
    }

    /// Returns the document. The id of the content identifies it, so that copies in several folders
    /// are one document; without such an id its location does. A message of Gmail is in the folders
    /// of its labels, and where it is listed: a label is left out in its own folder. "All Mail"
    /// counts only for a message without labels.
    pub(super) fn into_document(
        self,
        location: DocumentLocation,
        is_all_mail: bool,
    ) -> ListedDocument {
        let has_labels = self.label_folders.is_some();
        let blob = self.content.map_or_else(|| location.to_blob(), BlobId::new);
        let document = DocumentId::new(blob.as_str());
        let item = self.thread.map_or_else(|| ItemId::new(document.as_str()), ItemId::new);
        let mut folders = self.label_folders.unwrap_or_default();
        if has_labels && (!is_all_mail || folders.is_empty()) {
            folders.push(location.folder.clone());
        }
        ListedDocument {
            size_estimate: self.size,
            location: Some(location),
            folders,
            ..ListedDocument::new(item, document, blob)
        }
    }
}

/// Returns the size of a message; `None` if it is missing, zero or absurd. A number may have an
/// exponent: mail.ru writes `9.3736e+06`.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the cast saturates, and no size is believed that is zero or too large"
)]
fn read_size(values: &[Value]) -> Option<u64> {
    let size: f64 = attribute(values, SIZE)?.as_text()?.parse().ok()?;
    let size = size as u64;
    (1..=SIZE_MAX).contains(&size).then_some(size)
}

/// Returns an id with its prefix. RFC 8474 puts ids in parentheses; `NIL` is a thread of none.
fn read_id(values: &[Value], name: &str, prefix: &str) -> Option<String> {
    let value = attribute(values, name)?;
    let value = value.as_list().map_or(Some(value), <[Value]>::first)?;
    let id = value.as_text()?;
    let is_valid =
        (1..=ID_BYTES_MAX).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_graphic());
    is_valid.then(|| format!("{prefix}{id}"))
}

/// Returns the folders that labels stand for, without marks.
fn read_label_folders(value: &Value) -> Option<Vec<String>> {
    let folder = |label: &Value| {
        let label = label.as_bytes()?;
        if !label.starts_with(b"\\") {
            return Some(FolderName::from_wire(label).as_text().to_owned());
        }
        let is_label = |name: &str| label.eq_ignore_ascii_case(name.as_bytes());
        let found = GMAIL_SYSTEM_LABELS.iter().find(|(name, _)| is_label(name));
        found.map(|(_, folder)| (*folder).to_owned())
    };
    Some(value.as_list()?.iter().filter_map(folder).collect())
}

fn read_date(value: &Value) -> Option<DateTime<Utc>> {
    let text = value.as_text()?;
    DateTime::parse_from_str(text.trim(), DATE_FORMAT).ok().map(|date| date.to_utc())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn atom(text: &str) -> Value {
        Value::Atom(text.to_owned())
    }

    fn text(text: &str) -> Value {
        Value::Text(text.as_bytes().to_vec())
    }

    fn list(values: &[Value]) -> Value {
        Value::List(values.to_vec())
    }

    fn attributes(ids: ContentIds) -> RowAttributes {
        RowAttributes { ids, has_size: true, since: NaiveDate::from_ymd_opt(2020, 1, 2) }
    }

    fn document(row: MessageRow) -> ListedDocument {
        let folder = "INBOX".to_owned();
        row.into_document(DocumentLocation { folder, uid_validity: 3, uid: 7 }, false)
    }

    #[test]
    fn only_advertised_ids_are_asked_for() {
        let asked_for = |ids| RowAttributes { ids, has_size: true, since: None };
        let shown = |ids| asked_for(ids).to_string();

        assert_eq!(shown(ContentIds::None), "(UID RFC822.SIZE)");
        assert_eq!(shown(ContentIds::Objects), "(UID RFC822.SIZE EMAILID THREADID)");
        assert_eq!(shown(ContentIds::Gmail), "(UID RFC822.SIZE X-GM-MSGID X-GM-THRID X-GM-LABELS)");
        assert_eq!(attributes(ContentIds::None).to_string(), "(UID RFC822.SIZE INTERNALDATE)");
        assert_eq!(asked_for(ContentIds::None).without_size().to_string(), "(UID)");
    }

    #[test]
    fn a_message_without_ids_is_identified_by_its_location() {
        let values = [list(&[atom("UID"), atom("7")])];

        let (uid, row) = attributes(ContentIds::Objects).read_row(&values).unwrap();

        assert_eq!(uid, 7);
        let document = document(row);
        assert_eq!(document.blob.as_str(), "INBOX;3;7");
        assert_eq!(document.document.as_str(), "INBOX;3;7");
        assert_eq!(document.item.as_str(), "INBOX;3;7");
        assert_eq!((document.size, document.size_estimate), (None, None));
    }

    #[test]
    fn a_size_is_an_estimate_and_may_be_any_number() {
        let estimate = |size: Value| {
            let values = [list(&[atom("UID"), atom("7"), atom("RFC822.SIZE"), size])];
            document(attributes(ContentIds::None).read_row(&values).unwrap().1).size_estimate
        };

        let known = ["1", "812", "4294967295", "9.3736e+06", "812.9"];
        let sizes: [u64; 5] = [1, 812, 4_294_967_295, 9_373_600, 812];
        assert_eq!(known.map(|size| estimate(atom(size))), sizes.map(Some));
        assert_eq!(estimate(text("812")), Some(812));
        for unknown in ["0", "0.5", "-812", "4294967296", "18446744073709551616", "1e400", "x"] {
            assert_eq!(estimate(atom(unknown)), None, "{unknown}");
        }
        for unknown in ["inf", "-inf", "NaN", ""] {
            assert_eq!(estimate(text(unknown)), None, "{unknown}");
        }
        assert_eq!([Value::Nil, list(&[atom("812")])].map(estimate), [None, None]);
    }

    #[test]
    fn ids_of_the_server_identify_documents_and_items() {
        let objects = [list(&[
            atom("EMAILID"),
            list(&[atom("M6d99")]),
            atom("THREADID"),
            list(&[atom("T64")]),
            atom("UID"),
            atom("7"),
        ])];
        let gmail = [list(&[
            atom("X-GM-THRID"),
            atom("1278455344230334866"),
            atom("X-GM-MSGID"),
            atom("1278455344230334865"),
            atom("UID"),
            atom("7"),
        ])];

        let read = |ids, values: &[Value]| document(attributes(ids).read_row(values).unwrap().1);
        let (by_object, by_gmail) =
            (read(ContentIds::Objects, &objects), read(ContentIds::Gmail, &gmail));

        assert_eq!((by_object.blob.as_str(), by_object.item.as_str()), ("em:M6d99", "thread:T64"));
        assert_eq!(by_gmail.document.as_str(), "gm:1278455344230334865");
        assert_eq!(by_gmail.item.as_str(), "gm-thread:1278455344230334866");
        assert_eq!(by_gmail.location.unwrap().to_blob().as_str(), "INBOX;3;7");
    }

    #[test]
    fn labels_of_gmail_are_folders() {
        let folders = |labels: &[Value]| {
            let values = [list(&[atom("UID"), atom("7"), atom("X-GM-LABELS"), list(labels)])];
            let (_, row) = attributes(ContentIds::Gmail).read_row(&values).unwrap();
            let folder = "Listed".to_owned();
            let place = DocumentLocation { folder, uid_validity: 3, uid: 7 };
            let in_folder = row.clone().into_document(place.clone(), false).folders;
            assert!(in_folder.contains(&"Listed".to_owned()), "{in_folder:?}");
            row.into_document(place, true).folders
        };

        let labels = ["\\Inbox", "\\Important", "\\Starred", "Work/2024", "Entw&APw-rfe"];
        assert_eq!(folders(&labels.map(text)), ["INBOX", "Work/2024", "Entw\u{fc}rfe"]);
        assert_eq!(folders(&[atom("\\sent"), atom("Work")]), ["Sent", "Work"]);
        assert_eq!(folders(&[atom("\\Important")]), ["Listed"]);
        let unlabeled = [list(&[atom("UID"), atom("7")])];
        let row = attributes(ContentIds::Gmail).read_row(&unlabeled).unwrap().1;
        assert!(document(row).folders.is_empty(), "the server has not sent labels");
    }

    #[test]
    fn a_message_without_a_thread_is_its_own_item() {
        let ids = [atom("EMAILID"), list(&[atom("M1")]), atom("THREADID"), Value::Nil];
        let values = [list(&[&[atom("UID"), atom("7")][..], &ids].concat())];

        let (_, row) = attributes(ContentIds::Objects).read_row(&values).unwrap();

        assert_eq!(document(row).item.as_str(), "em:M1");
    }

    #[test]
    fn an_invalid_id_is_none() {
        for id in [text(""), text("a b"), text(&"x".repeat(256)), list(&[]), Value::Nil] {
            let values = [list(&[atom("UID"), atom("7"), atom("EMAILID"), id.clone()])];
            let (_, row) = attributes(ContentIds::Objects).read_row(&values).unwrap();
            assert_eq!(row, MessageRow::default(), "{id:?}");
        }
    }

    #[test]
    fn a_response_without_a_uid_is_no_row() {
        for values in [
            &[atom("UID")][..],
            &[],
            &[list(&[atom("FLAGS"), list(&[])])],
            &[list(&[atom("UID"), atom("x")])],
            &[list(&[atom("UID"), atom("4294967296")])],
        ] {
            assert_eq!(attributes(ContentIds::None).read_row(values), None, "{values:?}");
        }
    }

    #[test]
    fn a_second_response_adds_what_the_first_one_lacks() {
        let (content, size) = (Some("em:M1".to_owned()), Some(812));
        let named = MessageRow { content, size, ..MessageRow::default() };
        let mut flags_first = MessageRow::default();
        let mut answer_first = named.clone();

        flags_first.merge(named.clone());
        answer_first.merge(MessageRow::default());

        assert_eq!([flags_first, answer_first], [named.clone(), named]);
    }

    #[test]
    fn the_first_day_is_one_of_utc() {
        let attributes = attributes(ContentIds::None);
        let is_selected = |date: &str| {
            let values = [list(&[atom("UID"), atom("7"), atom("INTERNALDATE"), text(date)])];
            attributes.selects(&attributes.read_row(&values).unwrap().1)
        };

        assert!(is_selected(" 2-Jan-2020 00:00:00 +0000"));
        assert!(is_selected("01-Jan-2020 20:00:00 -0500"));
        assert!(!is_selected(" 1-Jan-2020 23:59:59 +0000"));
        assert!(!is_selected("02-Jan-2020 01:00:00 +0200"));
        assert!(is_selected("yesterday"), "an invalid date is no reason to leave a message out");
    }
}
