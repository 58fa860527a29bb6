//! Progress in the folder that is being listed, as a page token stores it.

use serde::{Deserialize, Serialize};

use crate::source::imap::listing::window::{UidWindow, WindowWidth};

/// Progress in the folder that is being listed.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(super) struct FolderProgress {
    /// First UID of the next window. After the largest UID it is none.
    pub(super) next_uid: u64,
    pub(super) width: WindowWidth,
    /// Messages that the server listed, whether they are selected or not.
    pub(super) rows: u64,
    /// Number of times that the folder was found to be renumbered.
    pub(super) restarts: u32,
    /// True if the folder is listed once more, because the first list was too short.
    pub(super) is_second_pass: bool,
    /// True if the next window is listed without sizes, because the server failed to list it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) omits_sizes: bool,
}

impl FolderProgress {
    pub(super) fn at(next_uid: u32) -> Self {
        Self {
            next_uid: next_uid.into(),
            width: WindowWidth::START,
            rows: 0,
            restarts: 0,
            is_second_pass: false,
            omits_sizes: false,
        }
    }

    /// Records a window and the number of its rows.
    pub(super) fn record_window(&mut self, window: UidWindow, rows: usize) {
        self.next_uid = u64::from(window.last).saturating_add(1);
        self.width = self.width.after(rows);
        let rows = u64::try_from(rows).unwrap_or(u64::MAX);
        self.rows = self.rows.saturating_add(rows);
        self.omits_sizes = false;
    }
}
