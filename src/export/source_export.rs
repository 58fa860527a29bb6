//! Export of one source: from the rows of its ledger to its writer, a group at a time.

use std::path::Path;

use cynosure_engine::{Cause, Failure, Timestamp, sanitize_line};

use crate::archive::verify::FileCheck;
use crate::disk::{Disk, PathKind};
use crate::export::content::{read_beginning, read_verified, version_path};
use crate::export::failure::ExportFailure;
use crate::export::folder_names::{
    ExportedFolder, FOLDERS_MAX, FolderKey, FolderTable, NamingStyle,
};
use crate::export::message_time::message_time;
use crate::export::options::{ExportOptions, LineEnds};
use crate::export::state::{DAMAGED_NAMED_MAX, DamagedFile, ExportCounts, ExportedSource};
use crate::export::writer::{ExportEntry, ExportWriter};
use crate::human::humanize;
use crate::ledger::{DocumentRowId, ExportDocument, ExportVersion, LedgerReports};

/// Extension of the files of messages.
pub(super) const MAIL_EXTENSION: &str = "eml";

/// Rows per query. The number is not critical.
const PAGE_ROWS_MAX: usize = 256;

/// Folders in the state file for each message of a group. The entry of a folder takes about 100
/// bytes, so the file adds little to the bytes of the messages.
const FOLDERS_PER_MESSAGE: usize = 16;

/// Size of a group of messages that is made durable together.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct GroupSize {
    /// Messages, counted in each of their folders.
    pub messages: usize,
    pub bytes: u64,
}

/// Progress of an export, for people.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ExportProgress<'a> {
    pub source: &'a str,
    /// Row of the ledger that is exported, of `newest_row`.
    pub row: u64,
    pub newest_row: u64,
    /// Counts of the source so far.
    pub counts: ExportCounts,
}

impl GroupSize {
    /// Maximum size: large enough that a sync takes a small part of the time, and small enough that
    /// little is repeated after a crash.
    pub const MAX: Self = Self { messages: 512, bytes: 64 * 1024 * 1024 };

    /// True if the group is to be made durable. The state file has an entry for each folder, so
    /// with very many folders the groups are larger, and it is written less often.
    fn is_full(self, max: Self, folders: usize) -> bool {
        self.messages >= max.messages.max(folders / FOLDERS_PER_MESSAGE) || self.bytes >= max.bytes
    }
}

/// Reason why the export of a source ended without an error.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum SourceEnd {
    Complete,
    /// The user wants it to stop.
    Stopped,
}

/// Archive and ledger of the source, and the place where they are read.
#[derive(Clone, Copy, Debug)]
pub(super) struct ExportInput<'a> {
    pub(super) disk: &'a dyn Disk,
    pub(super) archive: &'a Path,
    pub(super) ledger: &'a dyn LedgerReports,
    /// File that shows that the archive is there; `None` if it has none.
    pub(super) marker: Option<&'a Path>,
}

/// Effects of the export of a source on its surroundings.
pub(super) trait ExportHost {
    /// True if the user wants the export to stop.
    fn should_stop(&self) -> bool;

    fn show_progress(&mut self, progress: &ExportProgress<'_>);

    /// Makes the progress of the source durable in the state file.
    fn save(&mut self, source: &ExportedSource) -> Result<(), ExportFailure>;
}

/// Export of one source.
pub(super) struct SourceExport<'a> {
    input: ExportInput<'a>,
    options: &'a ExportOptions,
    group_max: GroupSize,
    host: &'a mut dyn ExportHost,
    writer: &'a mut dyn ExportWriter,
    table: FolderTable,
    /// Durable progress, and the folders of the current group.
    saved: ExportedSource,
    /// Progress with the current group.
    current: CurrentProgress,
    group: GroupSize,
}

/// Progress with a group that does not count yet.
#[derive(Debug)]
struct CurrentProgress {
    last_row: i64,
    counts: ExportCounts,
    damaged: Vec<DamagedFile>,
}

impl<'a> SourceExport<'a> {
    /// Creates the export that continues with `source`.
    #[must_use]
    pub(super) fn new(
        input: ExportInput<'a>,
        (options, group_max): (&'a ExportOptions, GroupSize),
        host: &'a mut dyn ExportHost,
        writer: &'a mut dyn ExportWriter,
        source: ExportedSource,
    ) -> Self {
        let style = NamingStyle::new(options.format, options.layout);
        Self {
            input,
            options,
            group_max,
            host,
            writer,
            table: FolderTable::new(style, &source.folders),
            current: CurrentProgress {
                last_row: source.last_row,
                counts: source.counts,
                damaged: source.damaged.clone(),
            },
            saved: source,
            group: GroupSize::default(),
        }
    }

    /// Exports the rest of the source. What counts is in the state file.
    ///
    /// # Errors
    /// An [`ExportFailure`]. The group that was being written does not count.
    pub(super) fn run(mut self) -> Result<SourceEnd, ExportFailure> {
        self.writer.recover(&self.saved)?;
        let newest = Some(DocumentRowId(self.saved.newest_row));
        loop {
            let after = Some(DocumentRowId(self.current.last_row));
            let page = self.input.ledger.documents_to_export(after, newest, PAGE_ROWS_MAX)?;
            if page.is_empty() {
                break;
            }
            for document in &page {
                if self.host.should_stop() {
                    self.commit()?;
                    return Ok(SourceEnd::Stopped);
                }
                self.export_document(document)?;
                self.show_progress();
            }
        }
        self.commit()?;
        self.writer.finish(&self.saved)?;
        self.saved.is_complete = true;
        self.saved.folders = Vec::new();
        self.host.save(&self.saved)?;
        self.writer.clean_up()?;
        Ok(SourceEnd::Complete)
    }

    fn show_progress(&mut self) {
        self.host.show_progress(&ExportProgress {
            source: &self.saved.name,
            row: self.current.last_row.unsigned_abs(),
            newest_row: self.saved.newest_row.unsigned_abs(),
            counts: self.current.counts,
        });
    }

    fn export_document(&mut self, document: &ExportDocument) -> Result<(), ExportFailure> {
        for (position, version) in document.versions.iter().enumerate() {
            let number = document.versions.len() - position;
            self.export_version(document, version, number)?;
        }
        self.current.last_row = document.row_id.0;
        if self.group.is_full(self.group_max, self.saved.folders.len()) {
            self.commit()?;
        }
        Ok(())
    }

    /// Exports a version of a document; the oldest has number 1.
    fn export_version(
        &mut self,
        document: &ExportDocument,
        version: &ExportVersion,
        number: usize,
    ) -> Result<(), ExportFailure> {
        let is_mail = is_mail(&version.file);
        if !is_mail && self.options.format.is_for_mail_only() {
            self.current.counts.skipped += 1;
            return Ok(());
        }
        let ExportInput { disk, archive, .. } = self.input;
        if let Some(since) = &self.options.since
            && let Some(beginning) = read_beginning(disk, archive, version)
            && version_time(version, is_mail, &beginning) < since.at
        {
            self.current.counts.older += 1;
            return Ok(());
        }
        match read_verified(disk, archive, version) {
            Ok(content) => {
                let entry = ExportEntry {
                    document,
                    version: number,
                    is_earlier: number < document.versions.len(),
                    file: &version.file,
                    time: version_time(version, is_mail, content.beginning()),
                    content: &content,
                    line_ends: if is_mail { self.options.line_ends } else { LineEnds::Keep },
                };
                self.add(&entry)
            }
            Err(check) => self.record_damage(version, &check),
        }
    }

    fn add(&mut self, entry: &ExportEntry<'_>) -> Result<(), ExportFailure> {
        let keys: Vec<FolderKey> = match entry.document.folders.as_slice() {
            _ if entry.is_earlier => vec![FolderKey::EarlierVersions],
            [] => vec![FolderKey::NoFolder],
            names => names.iter().cloned().map(FolderKey::Named).collect(),
        };
        let positions = self.find_folders(keys)?;
        let folders: Vec<(usize, &ExportedFolder)> = positions
            .iter()
            .filter_map(|position| Some((*position, self.saved.folders.get(*position)?)))
            .collect();
        self.writer.add(&self.saved, entry, &folders)?;
        self.group.messages += folders.len();
        self.group.bytes += entry.content.length();
        let copies = (folders.len() as u64).saturating_sub(1);
        let counts = &mut self.current.counts;
        counts.bytes += entry.content.length();
        counts.copies += copies;
        counts.folders = self.saved.folders.len() as u64;
        if entry.is_earlier {
            counts.earlier_versions += 1;
        } else {
            counts.messages += 1;
        }
        Ok(())
    }

    /// Returns the positions of folders, and adds those that are new.
    fn find_folders(&mut self, keys: Vec<FolderKey>) -> Result<Vec<usize>, ExportFailure> {
        let mut positions = Vec::with_capacity(keys.len());
        for key in keys {
            let position = self.table.find_or_add(key, &mut self.saved.folders);
            positions.push(position.ok_or_else(|| self.too_many_folders())?);
        }
        Ok(positions)
    }

    fn too_many_folders(&self) -> ExportFailure {
        ExportFailure::Refused(format!(
            "{} has more than {FOLDERS_MAX} folders, which are too many for one export; the files \
             of the archive can be copied as they are",
            self.saved.name
        ))
    }

    fn record_damage(
        &mut self,
        version: &ExportVersion,
        check: &FileCheck,
    ) -> Result<(), ExportFailure> {
        let ExportInput { disk, archive, marker, .. } = self.input;
        if let Some(marker) = marker
            && !matches!(disk.path_kind(marker), Ok(Some(PathKind::File { .. })))
        {
            let archive = sanitize_line(&archive.to_string_lossy());
            let message = format!(
                "the archive {archive} is no longer there; mount it and run the same command \
                 again, which continues the export"
            );
            return Err(Failure::new(Cause::Storage, message).into());
        }
        self.current.counts.damaged += 1;
        if self.current.damaged.len() < DAMAGED_NAMED_MAX {
            let path = version_path(archive, version);
            let reason = match check {
                FileCheck::Unreadable { reason } => reason.clone(),
                FileCheck::Intact
                | FileCheck::Missing
                | FileCheck::NotAFile
                | FileCheck::WrongLength { .. }
                | FileCheck::WrongHash => humanize(check.name()),
            };
            let path = path.to_string_lossy().into_owned();
            self.current.damaged.push(DamagedFile { path, reason });
        }
        Ok(())
    }

    /// Makes the group durable, then counts it.
    fn commit(&mut self) -> Result<(), ExportFailure> {
        if self.current.last_row == self.saved.last_row {
            return Ok(());
        }
        self.writer.commit(&mut self.saved)?;
        let CurrentProgress { last_row, counts, damaged } = &self.current;
        self.saved.last_row = *last_row;
        self.saved.counts = *counts;
        self.saved.damaged.clone_from(damaged);
        self.host.save(&self.saved)?;
        self.group = GroupSize::default();
        Ok(())
    }
}

/// True for the file of a message.
fn is_mail(file: &str) -> bool {
    file.rsplit_once('.').is_some_and(|(_, extension)| extension == MAIL_EXTENSION)
}

/// Returns the time of a version: of the message, or else of the session that stored it.
fn version_time(version: &ExportVersion, is_mail: bool, beginning: &[u8]) -> Timestamp {
    let time = if is_mail { message_time(beginning) } else { None };
    time.unwrap_or(version.session_started_at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_larger_if_there_are_very_many_folders() {
        let is_full = |messages, bytes, folders| {
            GroupSize { messages, bytes }.is_full(GroupSize::MAX, folders)
        };

        assert_eq!([511, 512].map(|messages| is_full(messages, 0, 1_000)), [false, true]);
        assert_eq!([6_249, 6_250].map(|messages| is_full(messages, 0, 100_000)), [false, true]);
        assert!(is_full(1, GroupSize::MAX.bytes, 100_000));
    }
}
