//! Recovery of the archive: opens it and removes what a crash left behind.

use std::io;
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex};

use cynosure_engine::{DocumentId, Failure, ItemId};

use crate::archive::FileArchive;
use crate::archive::format::DocumentFormat;
use crate::archive::intent::{INTENT_PREFIX, IntendedDocument, IntentList};
use crate::archive::layout::FolderName;
use crate::archive::line_file::{LINES_FILE, LineRange, parse_line_place};
use crate::archive::marker::{ArchiveMarker, ArchiveOwner, MARKER_FILE, MARKER_LOCK_FILE};
use crate::archive::staging::StagingFolder;
use crate::disk::{PathKind, storage_failure};

/// Files in a source's staging folder that are not removed at start.
const PERSISTENT_FILES: [&str; 2] = [MARKER_FILE, MARKER_LOCK_FILE];

/// Location of a stored version of a document.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ArchiveLocation {
    /// Name of the session folder.
    pub folder: String,
    /// Path below the session folder, or line of the file there, such as `records.jsonl@1234`.
    pub file: String,
}

/// Counts of what was removed when an archive was opened.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct RecoveryReport {
    /// Documents that were in the archive and not in the ledger. They are fetched again.
    pub removed_documents: usize,
    /// Files removed from the staging folder.
    pub removed_staged_files: usize,
}

impl FileArchive {
    /// Opens the archive of a marker that was [written](ArchiveMarker::write), and removes what a
    /// crash left there. New documents are stored in `format`.
    ///
    /// `is_stored` returns true if the ledger has this version of a document at this location.
    /// Documents of the last batches that it does not have are removed. Idempotent.
    ///
    /// # Errors
    /// A storage failure, or an error of `is_stored`.
    pub fn open(
        marker: ArchiveMarker,
        owner: ArchiveOwner,
        format: DocumentFormat,
        is_stored: impl Fn(&ItemId, &DocumentId, &ArchiveLocation) -> Result<bool, Failure>,
    ) -> Result<(Self, RecoveryReport), Failure> {
        let root = marker.root().to_owned();
        let archive = Self {
            root,
            format,
            staging_folder: Arc::new(StagingFolder::new(marker, owner)),
            manifest_state: Mutex::default(),
            line_state: Arc::default(),
        };
        let report = archive.clean_up(is_stored)?;
        Ok((archive, report))
    }

    fn clean_up(
        &self,
        is_stored: impl Fn(&ItemId, &DocumentId, &ArchiveLocation) -> Result<bool, Failure>,
    ) -> Result<RecoveryReport, Failure> {
        let folder = self.staging_folder.path();
        let mut names = self
            .disk()
            .list_dir(folder)
            .map_err(|error| storage_failure("list", folder, &error))?;
        names.retain(|name| !PERSISTENT_FILES.map(Path::new).contains(&name.as_path()));
        let mut report = RecoveryReport { removed_documents: 0, removed_staged_files: names.len() };
        for name in &names {
            // If this ledger has no documents here, a list is from an earlier ledger and says
            // nothing about this one.
            if self.staging_folder.has_documents()
                && name.to_string_lossy().starts_with(INTENT_PREFIX)
            {
                report.removed_documents += self.roll_back(&folder.join(name), &is_stored)?;
            }
        }
        if report.removed_documents > 0 {
            // The lists may be removed only after the removal of their documents is durable.
            self.disk()
                .open_filesystem(&self.root)
                .and_then(|mut filesystem| filesystem.sync())
                .map_err(|error| storage_failure("sync", &self.root, &error))?;
        }
        names.iter().try_for_each(|name| self.remove_file(&folder.join(name)))?;
        Ok(report)
    }

    /// Removes the documents on a list that the ledger does not have, and returns their number.
    pub(super) fn roll_back(
        &self,
        list_path: &Path,
        is_stored: impl Fn(&ItemId, &DocumentId, &ArchiveLocation) -> Result<bool, Failure>,
    ) -> Result<usize, Failure> {
        let bytes = match self.disk().read_file(list_path) {
            // It was removed after its documents.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
            bytes => bytes.map_err(|error| storage_failure("read", list_path, &error))?,
        };
        // A list is durable before the first of its documents is published. If it can't be parsed,
        // none was.
        let Some(list) = IntentList::from_bytes(&bytes) else { return Ok(0) };
        let Some(folder) = list.folder() else { return Ok(0) };
        let mut removed = 0;
        let mut unrecorded_lines = Vec::new();
        for IntendedDocument { item, document, file } in list.documents() {
            let location = ArchiveLocation { folder: folder.as_str().to_owned(), file };
            let line = parse_line_place(&location.file);
            if is_stored(&item, &document, &location)? {
                if line.is_some() {
                    // All lines of a batch are recorded in one transaction.
                    return Ok(removed);
                }
            } else if let Some(offset) = line {
                unrecorded_lines.push(offset);
            } else if let Some(path) = self.find_file(&folder, &location.file)? {
                self.remove_file(&path)?;
                removed += 1;
            }
        }
        match list.lines() {
            Some(range) => Ok(removed + self.cut_lines(&folder, range, &unrecorded_lines)?),
            None => Ok(removed),
        }
    }

    /// Cuts off the lines of the last batch, durably, and returns the number of those that were in
    /// the file.
    fn cut_lines(
        &self,
        folder: &FolderName,
        range: LineRange,
        offsets: &[u64],
    ) -> Result<usize, Failure> {
        let Some(path) = self.find_file(folder, LINES_FILE)? else { return Ok(0) };
        let failure = |error| storage_failure("shorten", &path, &error);
        // A longer file has lines of a later batch, which must stay.
        let bytes = match self.disk().path_kind(&path).map_err(failure)? {
            Some(PathKind::File { bytes }) if (range.start..=range.end).contains(&bytes) => bytes,
            Some(PathKind::File { .. } | PathKind::Folder | PathKind::Other) | None => {
                return Ok(0);
            }
        };
        // Also if nothing is left to be cut: an earlier cut may not be durable.
        let cut = || {
            let mut file = self.disk().open_append(&path)?;
            file.truncate(range.start)?;
            file.sync()
        };
        cut().map_err(failure)?;
        Ok(offsets.iter().filter(|offset| **offset < bytes).count())
    }

    /// Returns the path of a document in the archive. `None` if it is missing or behind a link.
    fn find_file(&self, folder: &FolderName, file: &str) -> Result<Option<PathBuf>, Failure> {
        let mut path = self.root.join(folder.as_str());
        let mut components = Path::new(file).components();
        loop {
            let kind = self
                .disk()
                .path_kind(&path)
                .map_err(|error| storage_failure("access", &path, &error))?;
            match (kind, components.next()) {
                (Some(PathKind::Folder), Some(Component::Normal(next))) => path.push(next),
                (Some(PathKind::File { .. }), None) => return Ok(Some(path)),
                (Some(PathKind::Folder | PathKind::File { .. } | PathKind::Other) | None, _) => {
                    return Ok(None);
                }
            }
        }
    }

    fn remove_file(&self, path: &Path) -> Result<(), Failure> {
        self.disk().remove_file(path).map_err(|error| storage_failure("remove", path, &error))
    }
}
