//! Cursor of an account: the numbering of each folder, from which new messages are known.
//!
//! A new message gets a UID of at least UIDNEXT, and the UIDs of a folder are valid as long as its
//! UIDVALIDITY (RFC 3501 §2.3.1.1). So the cursor is a small JSON text with both for each folder.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use cynosure_engine::{Cause, Cursor, Failure};
use serde::{Deserialize, Serialize};

use crate::source::imap::folders::{FolderStatus, FolderSurvey};
use crate::source::imap::wire::FolderName;

/// Version of the format. A cursor of another version leads to a full listing.
const VERSION: u32 = 1;

/// UID of the first message of a numbering.
pub(in crate::source::imap) const FIRST_UID: u32 = 1;

/// Numbering of all selected folders at one time.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(in crate::source::imap) struct ImapCursor {
    version: u32,
    /// Folders by the text of their names.
    folders: BTreeMap<String, FolderCursor>,
}

/// Numbering of a folder: `[uid_validity, uid_next, highest_mod_seq]`.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(from = "(u32, u32, u64)", into = "(u32, u32, u64)")]
struct FolderCursor {
    uid_validity: u32,
    uid_next: u32,
    /// 0 if the server does not number changes.
    highest_mod_seq: u64,
}

impl ImapCursor {
    /// Creates the cursor at the time of a survey.
    pub(in crate::source::imap) fn new(survey: &FolderSurvey) -> Self {
        let numbering = |status: &FolderStatus| FolderCursor::from(*status);
        let folders = survey.folders.iter();
        let folders =
            folders.map(|folder| (folder.name.as_text().to_owned(), numbering(&folder.status)));
        Self { version: VERSION, folders: folders.collect() }
    }

    /// Parses the text of a cursor.
    ///
    /// # Errors
    /// [`Cause::CursorExpired`] if it is not one of this version.
    pub(in crate::source::imap) fn parse(cursor: &Cursor) -> Result<Self, Failure> {
        let parsed: Option<Self> = serde_json::from_str(cursor.as_str()).ok();
        parsed.filter(|cursor| cursor.version == VERSION).ok_or_else(|| {
            let message = "the cursor was written by another version of the program";
            Failure::new(Cause::CursorExpired, message)
        })
    }

    /// Returns the text of the cursor.
    pub(in crate::source::imap) fn to_cursor(&self) -> Cursor {
        // Strings and numbers always serialize. An empty cursor would lead to a full listing.
        Cursor::new(serde_json::to_string(self).unwrap_or_default())
    }

    /// Returns the first UID that a message added since the cursor may have; `None` if there is no
    /// such message.
    ///
    /// A folder that is new or renumbered is new as a whole. So is one whose UIDNEXT is lower
    /// than before: its server was restored from a backup and uses the UIDs again.
    pub(in crate::source::imap) fn first_new_uid(
        &self,
        folder: &FolderName,
        now: &FolderStatus,
    ) -> Option<u32> {
        let whole = now.has_messages().then_some(FIRST_UID);
        let Some(then) = self.folders.get(folder.as_text()) else { return whole };
        if then.uid_validity != now.uid_validity {
            return whole;
        }
        match now.uid_next.cmp(&then.uid_next) {
            Ordering::Less => whole,
            Ordering::Equal => None,
            Ordering::Greater => Some(then.uid_next.max(FIRST_UID)),
        }
    }

    /// Replaces the numbering of a folder.
    pub(in crate::source::imap) fn replace(&mut self, folder: &str, status: &FolderStatus) {
        self.folders.insert(folder.to_owned(), FolderCursor::from(*status));
    }

    /// Removes a folder that no longer exists.
    pub(in crate::source::imap) fn remove(&mut self, folder: &str) {
        self.folders.remove(folder);
    }

    /// Takes the numbering of folders from an earlier cursor, because the server refuses to report
    /// it. What they receive meanwhile is then still new.
    pub(in crate::source::imap) fn keep_from(&mut self, earlier: &Self, folders: &[FolderName]) {
        for folder in folders {
            if let Some(numbering) = earlier.folders.get(folder.as_text()) {
                self.folders.insert(folder.as_text().to_owned(), *numbering);
            }
        }
    }
}

impl From<FolderStatus> for FolderCursor {
    fn from(status: FolderStatus) -> Self {
        let FolderStatus { uid_validity, uid_next, highest_mod_seq, messages: _ } = status;
        Self { uid_validity, uid_next, highest_mod_seq }
    }
}

impl From<(u32, u32, u64)> for FolderCursor {
    fn from((uid_validity, uid_next, highest_mod_seq): (u32, u32, u64)) -> Self {
        Self { uid_validity, uid_next, highest_mod_seq }
    }
}

impl From<FolderCursor> for (u32, u32, u64) {
    fn from(cursor: FolderCursor) -> Self {
        (cursor.uid_validity, cursor.uid_next, cursor.highest_mod_seq)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::imap::folders::SurveyedFolder;

    fn status(uid_validity: u32, uid_next: u32) -> FolderStatus {
        FolderStatus { messages: 5, uid_validity, uid_next, highest_mod_seq: 0 }
    }

    fn inbox() -> FolderName {
        FolderName::from_text("INBOX")
    }

    fn cursor_of(status: FolderStatus) -> ImapCursor {
        let folders = vec![SurveyedFolder { name: inbox(), status }];
        ImapCursor::new(&FolderSurvey { folders, refused: Vec::new() })
    }

    #[test]
    fn the_text_is_short_and_is_read_back() {
        let cursor = cursor_of(FolderStatus { highest_mod_seq: 77, ..status(3, 17) });

        let text = cursor.to_cursor();

        assert_eq!(text.as_str(), r#"{"version":1,"folders":{"INBOX":[3,17,77]}}"#);
        assert_eq!(ImapCursor::parse(&text), Ok(cursor));
    }

    #[test]
    fn a_cursor_that_cannot_be_read_has_expired() {
        for text in ["", "s123", "{}", r#"{"version":2,"folders":{}}"#] {
            let failure = ImapCursor::parse(&Cursor::new(text)).unwrap_err();
            assert_eq!(failure.cause, Cause::CursorExpired, "{text}");
        }
    }

    #[test]
    fn new_messages_begin_at_the_uid_of_the_cursor() {
        let cursor = cursor_of(status(3, 17));
        let first_new_uid = |status| cursor.first_new_uid(&inbox(), &status);

        assert_eq!(first_new_uid(status(3, 17)), None);
        assert_eq!(first_new_uid(status(3, 18)), Some(17));
        assert_eq!(first_new_uid(status(4, 18)), Some(1), "renumbered");
        assert_eq!(first_new_uid(status(3, 16)), Some(1), "restored from a backup");
        assert_eq!(first_new_uid(FolderStatus { messages: 0, ..status(4, 18) }), None);
    }

    #[test]
    fn a_new_folder_is_new_as_a_whole() {
        let cursor = cursor_of(status(3, 17));
        let other = FolderName::from_text("Other");

        assert_eq!(cursor.first_new_uid(&other, &status(3, 17)), Some(1));
        assert_eq!(cursor.first_new_uid(&other, &status(3, 1)), None);
    }

    #[test]
    fn a_refused_folder_keeps_its_earlier_numbering() {
        let earlier = cursor_of(status(3, 17));
        let mut cursor = ImapCursor::new(&FolderSurvey::default());

        cursor.keep_from(&earlier, &[inbox(), FolderName::from_text("Other")]);

        assert_eq!(cursor, earlier);
    }
}
