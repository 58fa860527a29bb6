//! Writer of documents that are lines: a power cut at any moment loses no stored line, and leaves
//! no other.
//!
//! 1. The [intent list](IntentList) of the batch names its bytes in the file of lines. It is synced
//!    before anything is appended, so that recovery can cut the file back.
//! 2. The lines are appended to the [manifest](crate::archive::manifest), then to the file, and
//!    each is synced.
//! 3. The caller commits the batch to the ledger, then [removes](FileArchive::clear_intent) the list.
//!
//! Only the end of a file can be cut off, so no batch is appended before the one before it is in
//! the ledger or [cut off](FileArchive::settle_lines).

use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cynosure_engine::{Cause, DocumentId, Failure, ItemId};

use crate::archive::FileArchive;
use crate::archive::intent::{INTENT_PREFIX, IntentList};
use crate::archive::layout::FolderName;
use crate::archive::line_file::{
    LINES_FILE, LineRange, LineState, UnrecordedLines, line_place, lock_line_state,
};
use crate::archive::recover::ArchiveLocation;
use crate::archive::spooled_document::{SpoolBody, SpooledFile};
use crate::archive::writer::{BatchEntry, PublishedFile, SyncMode};
use crate::disk::{DiskFile, PathKind, storage_failure};

/// Number of bytes that are gathered before they are appended. Any number would do.
const APPEND_BYTES: usize = 256 * 1024;

/// Batch of lines, planned before the first of its bytes is written.
#[derive(Debug)]
struct LinePlan<'a> {
    /// Path of the file of lines.
    path: PathBuf,
    range: LineRange,
    /// True if the last line of the file has no line break, because someone has edited it.
    lacks_line_break: bool,
    /// Each document with its place.
    lines: Vec<(&'a BatchEntry, PublishedFile)>,
}

impl FileArchive {
    /// Appends documents to the file of lines of a session folder, durably. The results are in the
    /// order of the documents.
    ///
    /// # Errors
    /// A storage failure, after which the file is as long as before, or the next batch fails until
    /// the lines are [settled](Self::settle_lines).
    pub(super) fn append_lines(
        &self,
        folder: &FolderName,
        entries: &[BatchEntry],
    ) -> Result<(Vec<PublishedFile>, UnrecordedLines), Failure> {
        self.begin_lines()?;
        let begun = self.plan_lines(folder, entries).and_then(|plan| {
            let (list, file) = self.staging_folder.create_file(INTENT_PREFIX)?;
            Ok((plan, list.keep(), file))
        });
        let (plan, list, mut list_file) = match begun {
            Ok(begun) => begun,
            Err(failure) => {
                *lock_line_state(&self.line_state) = LineState::Recorded;
                return Err(failure);
            }
        };
        // From here on the list must be removed before another batch is appended: it would have the
        // same bytes of the file.
        let unrecorded = UnrecordedLines::new(Arc::clone(&self.line_state), list.clone());
        let result = list_file
            .append(&plan.to_intent_list(folder).to_bytes())
            .and_then(|()| list_file.sync())
            .map_err(|error| storage_failure("write", &list, &error))
            .and_then(|()| self.write_plan(folder, &plan));
        if let Err(failure) = result {
            drop(unrecorded);
            // The ledger cannot have them. If this fails, the caller settles them later.
            self.settle_lines(|_, _, _| Ok(false)).ok();
            return Err(failure);
        }
        Ok((plan.lines.into_iter().map(|(_, line)| line).collect(), unrecorded))
    }

    /// True if the lines of a batch that failed may still be in the file.
    #[must_use]
    pub fn has_abandoned_lines(&self) -> bool {
        matches!(*lock_line_state(&self.line_state), LineState::Abandoned(_))
    }

    /// Cuts off the lines of a batch that failed, if there is one, and removes their intent list.
    ///
    /// `is_stored` returns true if the ledger has this document at this location.
    ///
    /// # Errors
    /// A storage failure, or an error of `is_stored`. Until the lines are settled, no others are
    /// appended.
    pub fn settle_lines(
        &self,
        is_stored: impl Fn(&ItemId, &DocumentId, &ArchiveLocation) -> Result<bool, Failure>,
    ) -> Result<(), Failure> {
        // Held to the end, so that no batch begins meanwhile.
        let mut state = lock_line_state(&self.line_state);
        let LineState::Abandoned(list) = &*state else { return Ok(()) };
        self.staging_folder.verify_owner()?;
        self.roll_back(list, is_stored)?;
        match self.disk().remove_file(list) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(storage_failure("remove", list, &error));
            }
            Ok(()) | Err(_) => {}
        }
        *state = LineState::Recorded;
        Ok(())
    }

    fn begin_lines(&self) -> Result<(), Failure> {
        let mut state = lock_line_state(&self.line_state);
        if !matches!(*state, LineState::Recorded) {
            let message = format!(
                "cannot append to {LINES_FILE}, because the batch before is not in the ledger; the \
                 work resumes once the ledger can be written"
            );
            return Err(Failure::new(Cause::Storage, message));
        }
        *state = LineState::InProgress;
        Ok(())
    }

    fn plan_lines<'a>(
        &self,
        folder: &FolderName,
        entries: &'a [BatchEntry],
    ) -> Result<LinePlan<'a>, Failure> {
        let path = self.ensure_session_folder(folder)?.join(LINES_FILE);
        let (start, lacks_line_break) =
            self.end_of_lines(&path).map_err(|error| storage_failure("read", &path, &error))?;
        let mut end = start + u64::from(lacks_line_break);
        let lines = entries.iter().map(|entry| {
            let (length, sha256) = (entry.spooled.length(), entry.spooled.sha256());
            let file = line_place(end);
            end += length + u64::from(entry.spooled.lacks_line_feed());
            (entry, PublishedFile { file, length, sha256 })
        });
        let lines = lines.collect();
        Ok(LinePlan { path, range: LineRange { start, end }, lacks_line_break, lines })
    }

    /// Returns the length of a file of lines, and true if its last line has no line break.
    fn end_of_lines(&self, path: &Path) -> io::Result<(u64, bool)> {
        match self.disk().path_kind(path)? {
            None | Some(PathKind::File { bytes: 0 }) => Ok((0, false)),
            Some(PathKind::File { bytes }) => {
                let mut last = [0];
                self.disk().open_file_at(path, bytes - 1)?.read_exact(&mut last)?;
                Ok((bytes, last != *b"\n"))
            }
            Some(PathKind::Folder | PathKind::Other) => {
                Err(io::Error::other("a folder or a link is in its place; remove it"))
            }
        }
    }

    /// Writes the lines of a plan whose intent list is synced.
    fn write_plan(&self, folder: &FolderName, plan: &LinePlan<'_>) -> Result<(), Failure> {
        // Recovery must find the list. This also makes the removal of earlier lists durable, which
        // may have the same bytes of the file.
        self.sync_folder(self.staging_folder.path())?;
        let lines =
            plan.lines.iter().map(|(entry, line)| entry.to_manifest_line(line.file.clone()));
        self.append_manifest(folder, lines, SyncMode::PerFile)?;
        self.write_lines(plan).map_err(|error| storage_failure("write", &plan.path, &error))?;
        // The names of both files may be new.
        self.sync_folder(&self.root.join(folder.as_str()))
    }

    fn write_lines(&self, plan: &LinePlan<'_>) -> io::Result<()> {
        let mut file = self.disk().open_append(&plan.path)?;
        let mut buffer = Vec::new();
        if plan.lacks_line_break {
            buffer.push(b'\n');
        }
        for (entry, _) in &plan.lines {
            match &entry.spooled.body {
                SpoolBody::Memory(bytes) => buffer.extend_from_slice(bytes.as_bytes()),
                SpoolBody::Spilled(spilled) => {
                    file.append(&std::mem::take(&mut buffer))?;
                    self.copy_spilled(spilled, entry.spooled.length(), &mut *file)?;
                }
            }
            if entry.spooled.lacks_line_feed() {
                buffer.push(b'\n');
            }
            if buffer.len() >= APPEND_BYTES {
                file.append(&std::mem::take(&mut buffer))?;
            }
        }
        file.append(&buffer)?;
        file.sync()
    }

    fn copy_spilled(
        &self,
        spilled: &SpooledFile,
        length: u64,
        file: &mut dyn DiskFile,
    ) -> io::Result<()> {
        let mut source = self.disk().open_file(spilled.staged_file.path())?;
        let mut chunk = vec![0; APPEND_BYTES];
        let mut copied = 0;
        loop {
            match source.read(&mut chunk) {
                Ok(0) if copied == length => return Ok(()),
                Ok(0) => {
                    return Err(io::Error::other("the staging file of a document was changed"));
                }
                Ok(count) => {
                    file.append(&chunk[..count])?;
                    copied += count as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

impl LinePlan<'_> {
    fn to_intent_list(&self, folder: &FolderName) -> IntentList {
        let documents = self
            .lines
            .iter()
            .map(|(entry, line)| (&entry.item, &entry.document, line.file.clone()));
        IntentList::new(folder, documents).with_lines(self.range)
    }
}
