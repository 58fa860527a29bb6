//! Position in a listing, as a page token stores it.

use std::collections::VecDeque;

use cynosure_engine::{Cursor, PageToken};
use serde::{Deserialize, Serialize};

use crate::source::imap::cursor::{ChangedFolder, FIRST_UID, ImapCursor};
use crate::source::imap::folders::{FolderStatus, FolderSurvey, SurveyedFolder};
use crate::source::imap::listing::folder_progress::FolderProgress;
use crate::source::imap::listing::window::{ROWS_MIN, UidWindow, WindowWidth};
use crate::source::imap::options::FolderFilter;

/// Version of the format. A listing with a token of another version begins again.
const VERSION: u32 = 1;

/// Position in a listing of folders, one after the other.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(in crate::source::imap) struct ListingPosition {
    version: u32,
    /// Folders of the configuration from which these are.
    #[serde(default, skip_serializing_if = "FolderFilter::is_empty")]
    pub(super) filter: FolderFilter,
    /// Folder of Gmail that contains all messages, if it is listed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    all_mail: Option<String>,
    /// Folders that are not complete. The first one is being listed; those that failed once are the
    /// last.
    pub(super) folders: VecDeque<FolderRange>,
    /// Folders from which messages may have vanished, to be asked for after all new messages.
    #[serde(default, skip_serializing_if = "VecDeque::is_empty")]
    pub(super) changed_folders: VecDeque<ChangedFolder>,
    progress: FolderProgress,
    /// Number of messages when the listing started; `None` for a listing of changes.
    total: Option<u64>,
    /// Cursor after the listing: what is left out does not count as listed in it, and so is listed
    /// later. A cursor read before a full listing may contain a folder that this listing could not
    /// read.
    cursor: ImapCursor,
}

/// UIDs of a folder that are to be listed: from `first_uid` to before `uid_next`, which was read
/// before the listing. A message that arrives later is found by the next listing of changes.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(super) struct FolderRange {
    /// Text of the folder's name.
    pub(super) name: String,
    pub(super) uid_validity: u32,
    first_uid: u32,
    uid_next: u32,
    /// Number of messages in the range, if the server reports a plausible one.
    messages: Option<u64>,
    /// Progress when its listing failed and it was moved behind the others; `None` if it did not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    deferred_at: Option<FolderProgress>,
}

/// Contradiction between the list of a folder and its status.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct FolderShortfall {
    pub(super) listed: u64,
    /// Messages of the range that exist now.
    pub(super) expected: u64,
}

impl ListingPosition {
    /// Returns the start of a listing of all messages. An empty folder takes no request.
    pub(in crate::source::imap) fn of_everything(survey: &FolderSurvey) -> Self {
        let folders = survey.folders.iter().filter(|folder| folder.status.has_messages());
        let total = survey.folders.iter().map(|folder| folder.status.messages);
        let position = Self::new(
            folders.map(|folder| FolderRange::new(folder, FIRST_UID)).collect(),
            Some(total.fold(0, u64::saturating_add)),
            ImapCursor::new(survey),
        );
        Self { all_mail: all_mail_text(survey), ..position }
    }

    /// Returns the start of a listing of the messages added since a cursor.
    pub(in crate::source::imap) fn of_changes(survey: &FolderSurvey, since: &ImapCursor) -> Self {
        let mut cursor = ImapCursor::new(survey);
        cursor.keep_from(since, &survey.refused);
        let changed = survey.folders.iter().filter_map(|folder| {
            let first_uid = since.first_new_uid(&folder.name, &folder.status)?;
            Some(FolderRange::new(folder, first_uid))
        });
        let with_changes =
            |folder: &SurveyedFolder| since.changed_folder(&folder.name, &folder.status);
        let changed_folders = survey.folders.iter().filter_map(with_changes).collect();
        let all_mail = all_mail_text(survey);
        Self { changed_folders, all_mail, ..Self::new(changed.collect(), None, cursor) }
    }

    /// Parses a page token. Returns `None` without a token, and for one of another version.
    pub(super) fn decode(token: Option<&PageToken>) -> Option<Self> {
        let position: Self = serde_json::from_str(token?.as_str()).ok()?;
        (position.version == VERSION).then_some(position)
    }

    pub(super) fn encode(&self) -> PageToken {
        // Strings and numbers always serialize. An empty token would restart the listing and lose
        // nothing.
        PageToken::new(serde_json::to_string(self).unwrap_or_default())
    }

    /// Returns the folder that is being listed; `None` at the end of the listing.
    pub(super) fn current_folder(&self) -> Option<&FolderRange> {
        self.folders.front()
    }

    /// Returns true if a folder is that of all messages of Gmail.
    pub(super) fn is_all_mail(&self, name: &str) -> bool {
        self.all_mail.as_deref() == Some(name)
    }

    pub(super) fn progress(&self) -> FolderProgress {
        self.progress
    }

    pub(super) fn total(&self) -> Option<u64> {
        self.total
    }

    /// Returns the cursor after the listing.
    pub(super) fn end_cursor(&self) -> Cursor {
        self.cursor.to_cursor()
    }

    /// Returns the next window of the current folder; `None` after the last one.
    ///
    /// It covers the rest of the folder if few messages are left, so that most folders take one
    /// command, however sparse their UIDs are.
    pub(super) fn next_window(&self) -> Option<UidWindow> {
        let range = self.folders.front()?;
        let first = u32::try_from(self.progress.next_uid).ok()?;
        let last = range.last_uid().filter(|last| first <= *last)?;
        let unlisted = range.messages.map(|messages| messages.saturating_sub(self.progress.rows));
        let are_few = unlisted
            .and_then(|unlisted| usize::try_from(unlisted).ok())
            .is_some_and(|unlisted| unlisted <= ROWS_MIN);
        Some(if are_few {
            UidWindow { first, last }
        } else {
            self.progress.width.window(first, last)
        })
    }

    /// Records a window and the number of its rows.
    pub(super) fn record_window(&mut self, window: UidWindow, rows: usize) {
        self.progress.record_window(window, rows);
    }

    /// Begins again with narrow windows, after one with too many rows. The reported number of
    /// messages is not used any more, because it may be wrong.
    pub(super) fn narrow_windows(&mut self) {
        self.progress.width = WindowWidth::START;
        if let Some(range) = self.folders.front_mut() {
            range.messages = None;
        }
    }

    /// Lists the next window without sizes, after the server failed to list it.
    pub(super) fn omit_sizes(&mut self) {
        self.progress.omits_sizes = true;
    }

    /// Returns the contradiction between the list of the current folder and its status after it.
    ///
    /// Messages that arrived meanwhile are not in the list, and have UIDs from the old UIDNEXT on.
    /// Deleted messages make the list longer than the folder, never shorter.
    pub(super) fn shortfall(&self, status: &FolderStatus) -> Option<FolderShortfall> {
        let range = self.folders.front()?;
        let arrived_max = u64::from(status.uid_next.saturating_sub(range.uid_next));
        let expected = status.messages.saturating_sub(arrived_max);
        let listed = self.progress.rows;
        (listed < expected).then_some(FolderShortfall { listed, expected })
    }

    /// Lists the current folder once more.
    pub(super) fn repeat_folder(&mut self) {
        let restarts = self.progress.restarts;
        let first_uid = self.folders.front().map_or(FIRST_UID, |range| range.first_uid);
        self.progress =
            FolderProgress { restarts, is_second_pass: true, ..FolderProgress::at(first_uid) };
    }

    /// Begins again with the current folder, which the server has renumbered.
    pub(super) fn restart_folder(&mut self, status: &FolderStatus) {
        let restarts = self.progress.restarts.saturating_add(1);
        let Some(range) = self.folders.front_mut() else { return };
        *range = FolderRange {
            uid_validity: status.uid_validity,
            first_uid: FIRST_UID,
            uid_next: status.uid_next,
            messages: Some(status.messages),
            deferred_at: range.deferred_at,
            name: std::mem::take(&mut range.name),
        };
        self.cursor.replace(&range.name, status);
        self.progress = FolderProgress { restarts, ..FolderProgress::at(FIRST_UID) };
    }

    /// Leaves out the current folder, which does not exist any more.
    pub(super) fn drop_folder(&mut self) {
        if let Some(range) = self.folders.front() {
            self.cursor.remove(&range.name);
        }
        self.finish_folder();
    }

    /// Leaves out the current folder, which the server refuses to open.
    pub(super) fn refuse_folder(&mut self) {
        if let Some(range) = self.folders.front() {
            self.cursor.mark_refused(&range.name);
        }
        self.finish_folder();
    }

    /// Moves the current folder behind the others, because its listing failed. It is continued
    /// there.
    pub(super) fn defer_folder(&mut self) {
        if let Some(range) = self.folders.pop_front() {
            let deferred_at = Some(self.progress);
            self.folders.push_back(FolderRange { deferred_at, ..range });
        }
        self.begin_folder();
    }

    /// Continues with the next folder.
    pub(super) fn finish_folder(&mut self) {
        self.folders.pop_front();
        self.begin_folder();
    }

    fn new(folders: VecDeque<FolderRange>, total: Option<u64>, cursor: ImapCursor) -> Self {
        let progress = FolderProgress::at(FIRST_UID);
        let mut position = Self {
            version: VERSION,
            filter: FolderFilter::default(),
            all_mail: None,
            folders,
            changed_folders: VecDeque::new(),
            progress,
            total,
            cursor,
        };
        position.begin_folder();
        position
    }

    fn begin_folder(&mut self) {
        let start = FolderProgress::at(FIRST_UID);
        self.progress = self.folders.front().map_or(start, FolderRange::start);
    }
}

fn all_mail_text(survey: &FolderSurvey) -> Option<String> {
    survey.all_mail.as_ref().map(|name| name.as_text().to_owned())
}

impl FolderRange {
    fn new(folder: &SurveyedFolder, first_uid: u32) -> Self {
        let status = &folder.status;
        Self {
            name: folder.name.as_text().to_owned(),
            uid_validity: status.uid_validity,
            first_uid,
            uid_next: status.uid_next,
            messages: (first_uid == FIRST_UID).then_some(status.messages),
            deferred_at: None,
        }
    }

    /// Returns the progress with which its listing begins.
    fn start(&self) -> FolderProgress {
        self.deferred_at.unwrap_or_else(|| FolderProgress::at(self.first_uid))
    }

    /// Returns true if its listing failed once, and it was moved behind the others.
    pub(super) fn is_deferred(&self) -> bool {
        self.deferred_at.is_some()
    }

    /// Returns the last UID of the range.
    ///
    /// UIDs and UIDNEXT have 32 bits (RFC 3501 §9, `nz-number`), so that no UIDNEXT follows the
    /// largest UID: the largest UIDNEXT includes it. A message that gets this UID later does not
    /// change UIDNEXT, and is found by the next full listing.
    fn last_uid(&self) -> Option<u32> {
        if self.uid_next == u32::MAX { Some(u32::MAX) } else { self.uid_next.checked_sub(1) }
    }

    /// Returns true if all messages of the folder are listed, so that their number can be checked.
    pub(super) fn is_whole(&self) -> bool {
        self.first_uid == FIRST_UID
    }

    /// Returns true if messages of the range may be missing in a state with this UIDNEXT.
    pub(super) fn is_beyond(&self, uid_next: u32) -> bool {
        uid_next < self.uid_next
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::imap::wire::FolderName;

    fn status(messages: u64, uid_next: u32) -> FolderStatus {
        FolderStatus { messages, uid_validity: 3, uid_next, highest_mod_seq: 0 }
    }

    fn survey(folders: &[(&str, FolderStatus)]) -> FolderSurvey {
        let surveyed = |(name, status): &(&str, FolderStatus)| SurveyedFolder {
            name: FolderName::from_text(name),
            status: *status,
        };
        let folders = folders.iter().map(surveyed).collect();
        FolderSurvey { folders, ..FolderSurvey::default() }
    }

    fn everything(folders: &[(&str, FolderStatus)]) -> ListingPosition {
        ListingPosition::of_everything(&survey(folders))
    }

    /// Returns the text of the windows of a folder in which every UID is in use.
    fn windows(position: &mut ListingPosition) -> Vec<String> {
        let mut windows = Vec::new();
        while let Some(window) = position.next_window() {
            windows.push(window.to_string());
            let rows = usize::try_from(window.last - window.first).unwrap() + 1;
            position.record_window(window, rows);
        }
        windows
    }

    #[test]
    fn empty_folders_take_no_window() {
        let mut position =
            everything(&[("A", status(0, 9)), ("B", status(2, 7)), ("C", status(0, 1))]);

        assert_eq!(position.total(), Some(2));
        assert_eq!(position.current_folder().unwrap().name, "B");
        assert_eq!(windows(&mut position), ["1:6"]);
        position.finish_folder();
        assert_eq!(position.current_folder(), None);
    }

    #[test]
    fn a_large_folder_takes_windows_of_growing_width() {
        let mut position = everything(&[("A", status(12_000, 12_001))]);

        let expected = ["1:1000", "1001:3000", "3001:7000", "7001:11000", "11001:12000"];
        assert_eq!(windows(&mut position), expected);
    }

    #[test]
    fn few_messages_take_one_window_however_sparse_they_are() {
        let mut position = everything(&[("A", status(2_000, 4_000_000_000))]);
        assert_eq!(position.next_window().unwrap().to_string(), "1:3999999999");

        position.narrow_windows();

        assert_eq!(position.next_window().unwrap().to_string(), "1:1000");
    }

    #[test]
    fn the_largest_uid_is_listed_if_uidnext_allows_it() {
        for (uid_next, last) in [(u32::MAX, u32::MAX), (u32::MAX - 1, u32::MAX - 2)] {
            let mut position = everything(&[("A", status(2, uid_next))]);

            assert_eq!(windows(&mut position), [format!("1:{last}")]);
        }
    }

    #[test]
    fn a_deferred_folder_is_continued_after_the_others() {
        let folders = ["A", "B", "C"].map(|name| (name, status(3_000, 3_001)));
        let mut position = everything(&folders);
        position.record_window(UidWindow { first: 1, last: 1_000 }, 1_000);

        position.defer_folder();
        position.defer_folder();

        let mut listed = Vec::new();
        while let Some(range) = position.current_folder().cloned() {
            let windows = windows(&mut position).join(" ");
            listed.push(format!("{} {windows} {}", range.name, range.is_deferred()));
            position.finish_folder();
        }
        let expected = ["C 1:1000 1001:3000 false", "A 1001:3000 true", "B 1:1000 1001:3000 true"];
        assert_eq!(listed, expected);
        assert_eq!(position.end_cursor(), ImapCursor::new(&survey(&folders)).to_cursor());
    }

    #[test]
    fn a_listing_of_changes_begins_at_the_cursor() {
        let now = [("Same", status(5, 6)), ("More", status(7, 9)), ("New", status(1, 2))];
        let then = ImapCursor::new(&survey(&[("Same", status(5, 6)), ("More", status(5, 6))]));

        let mut position = ListingPosition::of_changes(&survey(&now), &then);

        assert!(!position.current_folder().unwrap().is_whole());
        assert_eq!(windows(&mut position), ["6:8"]);
        position.finish_folder();
        assert!(position.current_folder().unwrap().is_whole());
        assert_eq!(windows(&mut position), ["1:1"]);
        assert_eq!(position.end_cursor(), ImapCursor::new(&survey(&now)).to_cursor());
    }

    #[test]
    fn a_deleted_folder_is_not_in_the_cursor() {
        let mut position = everything(&[("A", status(1, 2)), ("B", status(1, 2))]);

        position.drop_folder();

        assert_eq!(position.current_folder().unwrap().name, "B");
        let expected = ImapCursor::new(&survey(&[("B", status(1, 2))])).to_cursor();
        assert_eq!(position.end_cursor(), expected);
    }

    #[test]
    fn a_refused_folder_is_listed_as_a_whole_by_the_next_changes() {
        let folders = [("A", status(5, 6)), ("B", status(5, 6))];
        let mut position = everything(&folders);
        position.refuse_folder();
        position.finish_folder();
        let cursor = ImapCursor::parse(&position.end_cursor()).unwrap();

        let mut changes = ListingPosition::of_changes(&survey(&folders), &cursor);

        assert_eq!(changes.current_folder().unwrap().name, "A");
        assert_eq!(windows(&mut changes), ["1:5"]);
        changes.finish_folder();
        assert_eq!(changes.current_folder(), None);
        assert_eq!(changes.end_cursor(), ImapCursor::new(&survey(&folders)).to_cursor());
    }

    #[test]
    fn a_folder_that_is_numbered_anew_begins_again() {
        let nothing = ImapCursor::new(&FolderSurvey::default());
        let mut position = ListingPosition::of_changes(&survey(&[("A", status(3, 9))]), &nothing);
        windows(&mut position);
        let renumbered = FolderStatus { uid_validity: 4, ..status(2, 3) };

        position.restart_folder(&renumbered);

        assert_eq!(position.progress().restarts, 1);
        assert_eq!(position.current_folder().unwrap().uid_validity, 4);
        assert_eq!(windows(&mut position), ["1:2"]);
        let expected = ImapCursor::new(&survey(&[("A", renumbered)])).to_cursor();
        assert_eq!(position.end_cursor(), expected);
    }

    #[test]
    fn messages_that_arrived_or_vanished_are_no_shortfall() {
        let mut position = everything(&[("A", status(6, 7))]);
        windows(&mut position);

        assert_eq!(position.shortfall(&status(6, 7)), None);
        assert_eq!(position.shortfall(&status(8, 9)), None, "two arrived");
        assert_eq!(position.shortfall(&status(4, 7)), None, "two were deleted");
        let shortfall = Some(FolderShortfall { listed: 6, expected: 7 });
        assert_eq!(position.shortfall(&status(9, 9)), shortfall);
    }

    #[test]
    fn a_second_pass_begins_with_the_folder() {
        let mut position = everything(&[("A", status(6, 7))]);
        windows(&mut position);

        position.repeat_folder();

        assert_eq!((position.progress().rows, position.progress().is_second_pass), (0, true));
        assert_eq!(windows(&mut position), ["1:6"]);
        position.finish_folder();
        assert!(!position.progress().is_second_pass);
    }

    #[test]
    fn a_position_is_read_back_from_its_token() {
        let mut position = everything(&[("A", status(9_000, 12_000)), ("B", status(3, 4))]);
        position.record_window(UidWindow { first: 1, last: 1_000 }, 10);

        let token = position.encode();
        assert_eq!(ListingPosition::decode(Some(&token)), Some(position.clone()));
        assert!(!token.as_str().contains("deferred"), "{token}");
        assert!(!token.as_str().contains("sizes"), "{token}");
        position.omit_sizes();
        position.defer_folder();
        assert_eq!(ListingPosition::decode(Some(&position.encode())), Some(position));
        for text in ["", "{}", "[]", "{\"version\":2}"] {
            assert_eq!(ListingPosition::decode(Some(&PageToken::new(text))), None, "{text}");
        }
        assert_eq!(ListingPosition::decode(None), None);
    }
}
