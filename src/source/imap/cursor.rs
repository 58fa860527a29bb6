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
    /// Folders that the server refused to open, with their numbering at that time. Once it opens
    /// them, all their messages are new.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    refused: BTreeMap<String, FolderCursor>,
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

/// Folder that has changed since a cursor, and the messages that the cursor knows.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(in crate::source::imap) struct ChangedFolder {
    /// Text of the folder's name.
    pub(in crate::source::imap) name: String,
    pub(in crate::source::imap) uid_validity: u32,
    /// Last UID that a message could have.
    pub(in crate::source::imap) last_uid: u32,
    /// Number of the last change.
    pub(in crate::source::imap) mod_seq: u64,
}

impl ImapCursor {
    /// Creates the cursor at the time of a survey.
    pub(in crate::source::imap) fn new(survey: &FolderSurvey) -> Self {
        let numbering = |status: &FolderStatus| FolderCursor::from(*status);
        let folders = survey.folders.iter();
        let folders =
            folders.map(|folder| (folder.name.as_text().to_owned(), numbering(&folder.status)));
        Self { version: VERSION, folders: folders.collect(), refused: BTreeMap::new() }
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

    /// Returns true if a listing of changes may find messages of the folder that were added since
    /// the cursor. A folder that was refused is tried again once its numbering has changed.
    pub(in crate::source::imap) fn is_outdated(
        &self,
        folder: &FolderName,
        now: &FolderStatus,
    ) -> bool {
        match self.refused.get(folder.as_text()) {
            Some(then) => {
                let is_same =
                    then.uid_validity == now.uid_validity && then.uid_next == now.uid_next;
                now.has_messages() && !is_same
            }
            None => self.first_new_uid(folder, now).is_some(),
        }
    }

    /// Returns a folder from which messages may have vanished since the cursor; `None` if none can
    /// have, or if the server does not number changes.
    pub(in crate::source::imap) fn changed_folder(
        &self,
        folder: &FolderName,
        now: &FolderStatus,
    ) -> Option<ChangedFolder> {
        let name = folder.as_text();
        let FolderCursor { uid_validity, uid_next, highest_mod_seq: mod_seq } =
            *self.folders.get(name)?;
        let is_changed =
            uid_validity == now.uid_validity && 0 < mod_seq && mod_seq < now.highest_mod_seq;
        let last_uid = uid_next.checked_sub(1).filter(|last| is_changed && FIRST_UID <= *last)?;
        Some(ChangedFolder { name: name.to_owned(), uid_validity, last_uid, mod_seq })
    }

    /// Replaces the numbering of a folder.
    pub(in crate::source::imap) fn replace(&mut self, folder: &str, status: &FolderStatus) {
        self.folders.insert(folder.to_owned(), FolderCursor::from(*status));
    }

    /// Removes a folder that no longer exists.
    pub(in crate::source::imap) fn remove(&mut self, folder: &str) {
        self.folders.remove(folder);
    }

    /// Records that the server refuses to open a folder.
    pub(in crate::source::imap) fn mark_refused(&mut self, folder: &str) {
        if let Some(numbering) = self.folders.remove(folder) {
            self.refused.insert(folder.to_owned(), numbering);
        }
    }

    /// Takes the numbering of folders from an earlier cursor, because the server refuses to report
    /// it. What they receive meanwhile is then still new.
    pub(in crate::source::imap) fn keep_from(&mut self, earlier: &Self, folders: &[FolderName]) {
        for name in folders.iter().map(FolderName::as_text) {
            if let Some(numbering) = earlier.folders.get(name) {
                self.folders.insert(name.to_owned(), *numbering);
            }
            if let Some(numbering) = earlier.refused.get(name) {
                self.refused.insert(name.to_owned(), *numbering);
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
        ImapCursor::new(&FolderSurvey { folders, ..FolderSurvey::default() })
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
    fn a_folder_that_was_not_opened_is_new_as_a_whole() {
        let mut cursor = cursor_of(status(3, 17));
        cursor.mark_refused("INBOX");

        let text = cursor.to_cursor();

        let expected = r#"{"version":1,"folders":{},"refused":{"INBOX":[3,17,0]}}"#;
        assert_eq!(text.as_str(), expected);
        assert_eq!(ImapCursor::parse(&text), Ok(cursor.clone()));
        for (now, is_outdated) in [
            (status(3, 17), false),
            (status(3, 18), true),
            (status(4, 17), true),
            (FolderStatus { highest_mod_seq: 9, ..status(3, 17) }, false),
            (FolderStatus { messages: 0, ..status(3, 18) }, false),
        ] {
            assert_eq!(cursor.is_outdated(&inbox(), &now), is_outdated, "{now:?}");
        }
        assert_eq!(cursor.first_new_uid(&inbox(), &status(3, 18)), Some(1));
        let mut next = ImapCursor::new(&FolderSurvey::default());
        next.keep_from(&cursor, &[inbox()]);
        assert_eq!(next, cursor);
    }

    #[test]
    fn messages_may_vanish_only_with_a_numbered_change() {
        let numbered = |uid_validity, uid_next, highest_mod_seq| FolderStatus {
            highest_mod_seq,
            ..status(uid_validity, uid_next)
        };
        let now = numbered(3, 18, 78);
        let changed_since = |then| cursor_of(then).changed_folder(&inbox(), &now);

        let changed = changed_since(numbered(3, 17, 77)).unwrap();

        assert_eq!((changed.name.as_str(), changed.uid_validity), ("INBOX", 3));
        assert_eq!((changed.last_uid, changed.mod_seq), (16, 77));
        assert_eq!(changed_since(numbered(3, 17, 78)), None, "nothing has changed");
        assert_eq!(changed_since(numbered(3, 17, 0)), None, "changes were not numbered");
        assert_eq!(changed_since(numbered(4, 17, 77)), None, "renumbered");
        assert_eq!(changed_since(numbered(3, 1, 77)), None, "no message was known");
        let other = FolderName::from_text("Other");
        assert_eq!(cursor_of(numbered(3, 17, 77)).changed_folder(&other, &now), None);
    }

    #[test]
    fn a_refused_folder_keeps_its_earlier_numbering() {
        let earlier = cursor_of(status(3, 17));
        let mut cursor = ImapCursor::new(&FolderSurvey::default());

        cursor.keep_from(&earlier, &[inbox(), FolderName::from_text("Other")]);

        assert_eq!(cursor, earlier);
    }
}
