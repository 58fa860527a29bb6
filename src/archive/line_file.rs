//! File of a session folder whose lines are documents: its name, and the places of its lines.
//!
//! A line is named by the number of its first byte, such as `records.jsonl@1234`. Its document has
//! no line break, or only the one that ends the line.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

/// Name of the file. No thread folder can have it, because dots in ids are encoded.
pub const LINES_FILE: &str = "records.jsonl";

/// Separator of file name and byte number in the place of a line.
const PLACE_SEPARATOR: char = '@';

/// Bytes of the file that a batch appends.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(super) struct LineRange {
    /// Length of the file before the batch, in bytes.
    pub(super) start: u64,
    /// Length of the file after it.
    pub(super) end: u64,
}

/// State of the newest batch of lines. The next one is appended only after it is recorded, because
/// only the end of the file can be cut off.
#[derive(Debug, Default)]
pub(super) enum LineState {
    /// The ledger has its lines.
    #[default]
    Recorded,
    /// It is being appended, or waits for the ledger.
    InProgress,
    /// It failed, or the ledger did not record it. The intent list at this path has its lines.
    Abandoned(PathBuf),
}

/// State that the archive and a batch in progress share.
pub(super) type SharedLineState = Arc<Mutex<LineState>>;

/// Batch of lines whose intent list is on disk, and that the ledger does not have yet. Dropping it
/// abandons the lines.
#[derive(Debug)]
pub(super) struct UnrecordedLines {
    state: SharedLineState,
    /// Path of the intent list; `None` once the lines are recorded.
    list: Option<PathBuf>,
}

/// Lines of one session folder that the ledger has.
#[derive(Debug, Default)]
pub struct RecordedLines {
    /// Lengths of the documents by the numbers of their first bytes.
    lengths: BTreeMap<u64, u64>,
}

/// Returns the place of the line that begins with byte number `offset`.
pub(super) fn line_place(offset: u64) -> String {
    format!("{LINES_FILE}{PLACE_SEPARATOR}{offset}")
}

/// Parses the number of a line's first byte from its place; `None` if this is the path of a file.
#[must_use]
pub fn parse_line_place(path: &str) -> Option<u64> {
    let offset = path.strip_prefix(LINES_FILE)?.strip_prefix(PLACE_SEPARATOR)?.parse().ok()?;
    (line_place(offset) == path).then_some(offset)
}

pub(super) fn lock_line_state(state: &SharedLineState) -> MutexGuard<'_, LineState> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl UnrecordedLines {
    pub(super) fn new(state: SharedLineState, list: PathBuf) -> Self {
        Self { state, list: Some(list) }
    }

    /// Records that the ledger has the lines. Returns the path of their intent list.
    pub(super) fn into_recorded(mut self) -> Option<PathBuf> {
        *lock_line_state(&self.state) = LineState::Recorded;
        self.list.take()
    }
}

impl Drop for UnrecordedLines {
    fn drop(&mut self) {
        if let Some(list) = self.list.take() {
            *lock_line_state(&self.state) = LineState::Abandoned(list);
        }
    }
}

impl RecordedLines {
    /// Adds a line. Returns false if it is there already: it is shared by several documents.
    pub fn insert(&mut self, offset: u64, length: u64) -> bool {
        self.lengths.insert(offset, length).is_none()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.lengths.is_empty()
    }

    /// Returns the places of bytes in front of a line that are no line of the ledger. Bytes behind
    /// the last line are left out, because a worker may be appending them.
    pub(super) fn gaps(&self) -> impl Iterator<Item = String> {
        let mut end = 0;
        self.lengths.iter().filter_map(move |(&offset, &length)| {
            let gap = (offset > end).then(|| line_place(end));
            // The line break, unless it is part of the document.
            end = offset.saturating_add(length).saturating_add(1);
            gap
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_parsed_only_as_it_is_written() {
        for offset in [0, 7, u64::MAX] {
            assert_eq!(parse_line_place(&line_place(offset)), Some(offset));
        }
        let others = ["records.jsonl", "records.jsonl@", "records.jsonl@01", "records.jsonl@+1"];
        for other in others.into_iter().chain(["t/records.jsonl@1", "t/m.eml", ""]) {
            assert_eq!(parse_line_place(other), None, "{other}");
        }
    }

    #[test]
    fn bytes_in_front_of_a_line_are_a_gap() {
        let mut lines = RecordedLines::default();
        assert!(lines.is_empty());

        // With a line break of its own, without one, after a gap, and as a copy.
        for (offset, length) in [(0, 10), (10, 10), (21, 10), (40, 5)] {
            assert!(lines.insert(offset, length));
        }
        assert!(!lines.insert(21, 10));

        assert_eq!(lines.gaps().collect::<Vec<_>>(), ["records.jsonl@32"]);
        lines.lengths.remove(&0);
        assert_eq!(lines.gaps().next().as_deref(), Some("records.jsonl@0"));
    }
}
