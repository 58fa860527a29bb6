//! Writer of document batches: a power cut at any moment loses no stored document.
//!
//! 1. [Stage](FileArchive::stage): the bytes and the [intent list](IntentList) go to the staging
//!    folder, a line for each document to the [manifest](MANIFEST_FILE) of the session folder, and
//!    all are synced.
//! 2. [Publish](FileArchive::publish): the files are renamed to their final paths, and the names are
//!    synced.
//! 3. The caller commits the batch to the ledger, then [removes](FileArchive::clear_intent) the list.
//!
//! While one batch is published and committed, another may be staged: each has separate files and
//! a separate list. Documents that are stored as lines are not staged: to publish them is to append
//! them to the file of lines of their session folder, batch after batch.
//!
//! A large batch is synced by one `syncfs` per step, which costs about the same for 8 files as for
//! 500. It reports write errors of the whole filesystem, including those of other programs. After
//! an error the batch is staged again under other names with an fsync per file, because the files
//! of the failed sync may never become durable.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{MutexGuard, PoisonError};

use cynosure_engine::{BlobId, DocumentId, Failure, ItemId};

use crate::archive::format::{FileExtension, RecordLayout};
use crate::archive::intent::{INTENT_PREFIX, Intent, IntentList};
use crate::archive::layout::{FolderName, document_path};
use crate::archive::line_file::UnrecordedLines;
use crate::archive::manifest::{MANIFEST_FILE, ManifestLine, ManifestState, to_json_lines};
use crate::archive::marker::NOT_A_FOLDER_MESSAGE;
use crate::archive::spool_memory::BATCH_BYTES_MAX;
use crate::archive::spooled_document::{SpoolBody, SpooledDocument};
use crate::archive::staging::StagedFile;
use crate::archive::{FileArchive, SPOOL_MEMORY_BYTES_MAX};
use crate::disk::{Filesystem, PathKind, storage_failure, write_durable};

/// Maximum number of documents in a batch.
///
/// A third of the 512 documents that a crash may cost: one batch is filled while another is staged
/// and another is published. Larger batches gain almost nothing.
pub const BATCH_DOCUMENTS_MAX: usize = 170;

/// Maximum number of spilled documents in a batch: each holds a file open, and a process may
/// have 1,024 open files.
const BATCH_SPILLED_MAX: usize = 32;

/// Maximum number of files or folders that are synced one by one.
///
/// An fsync costs about 0.2 ms and a `syncfs` of some hundred small files about 2 ms. Unlike
/// `syncfs`, fsync does not wait for writes of other programs.
const SINGLE_SYNCS_MAX: usize = 8;

/// Batch of documents to be stored together.
#[derive(Debug)]
pub struct WriteBatch {
    folder: FolderName,
    entries: Vec<BatchEntry>,
    memory_bytes: usize,
    spilled_count: usize,
}

/// Document that is durably in the archive but not yet in the ledger.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PublishedFile {
    /// Path below the session folder, or line of the file there, such as `records.jsonl@1234`.
    pub file: String,
    /// Length of the document, in bytes.
    pub length: u64,
    pub sha256: [u8; 32],
}

/// One document of a batch: its ids and its bytes.
#[derive(Debug)]
pub struct BatchEntry {
    pub item: ItemId,
    pub document: DocumentId,
    /// Blob id of the document at the source.
    pub blob: BlobId,
    /// Size announced by the source, in bytes.
    pub size: Option<u64>,
    /// Number of the stored version of the document, counted from [`FIRST_VERSION`].
    ///
    /// [`FIRST_VERSION`]: crate::archive::layout::FIRST_VERSION
    pub version: u32,
    /// Names and values that the source lists with the document, for people.
    pub labels: Vec<(String, String)>,
    /// Names of the folders that contain the document, if its source names them without numbers.
    pub folders: Vec<String>,
    pub spooled: SpooledDocument,
}

impl BatchEntry {
    /// Path below the session folder.
    fn relative_path(&self, extension: &FileExtension) -> String {
        document_path(&self.item, &self.document, self.version, extension)
    }

    pub(super) fn to_manifest_line(&self, path: String) -> ManifestLine {
        let ids = (&self.item, &self.document, &self.blob);
        let bytes = (self.spooled.length(), self.spooled.sha256());
        ManifestLine::new(ids, self.size, bytes, path)
            .with_labels(&self.labels)
            .with_folders(&self.folders)
    }
}

/// Batch whose files are durable under temporary names. Dropping it removes the files.
#[derive(Debug)]
#[must_use = "publish it, or it is removed"]
pub struct StagedFiles {
    /// Documents that are stored as files.
    batch: WriteBatch,
    /// Documents that are stored as lines, each with its position in the batch.
    lines: Vec<(usize, BatchEntry)>,
    /// `None` if no document is stored as a file.
    staged_files: Option<DraftFiles>,
    /// Handle for the syncs of a large batch. `None` for a small one.
    filesystem: Option<Box<dyn Filesystem>>,
}

#[derive(Debug)]
struct DraftFiles {
    /// One per document, in the order of the batch. `None` for documents spilled before.
    files: Vec<Option<StagedFile>>,
    intent: StagedFile,
}

/// Way in which staged files become durable.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum SyncMode {
    /// One fsync per file.
    PerFile,
    /// One `syncfs` after all files are written.
    WholeFilesystem,
}

impl WriteBatch {
    /// Creates an empty batch for the session with this folder.
    #[must_use]
    pub fn new(folder: FolderName) -> Self {
        Self { folder, entries: Vec::new(), memory_bytes: 0, spilled_count: 0 }
    }

    /// Adds a complete document.
    pub fn push(&mut self, entry: BatchEntry) {
        self.memory_bytes += entry.spooled.memory_bytes().len();
        self.spilled_count += usize::from(matches!(entry.spooled.body, SpoolBody::Spilled(_)));
        self.entries.push(entry);
    }

    /// True if another document might exceed a limit of the batch.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.entries.len() >= BATCH_DOCUMENTS_MAX
            || self.memory_bytes + SPOOL_MEMORY_BYTES_MAX > BATCH_BYTES_MAX
            || self.spilled_count >= BATCH_SPILLED_MAX
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Removes the documents that are one line, and returns them with their positions.
    fn split_off_lines(&mut self) -> Vec<(usize, BatchEntry)> {
        let entries = std::mem::take(&mut self.entries).into_iter().enumerate();
        let (lines, files): (Vec<_>, Vec<_>) =
            entries.partition(|(_, entry)| entry.spooled.is_line());
        self.entries = files.into_iter().map(|(_, entry)| entry).collect();
        lines
    }
}

impl FileArchive {
    /// Writes the documents of a batch durably to the staging folder, except those that will be
    /// lines.
    ///
    /// # Errors
    /// A storage failure; then no file of the batch is left.
    pub fn stage(&self, mut batch: WriteBatch) -> Result<StagedFiles, Failure> {
        self.staging_folder.verify_owner()?;
        let lines = match self.format.layout {
            RecordLayout::Files => Vec::new(),
            RecordLayout::Lines => batch.split_off_lines(),
        };
        if batch.is_empty() {
            return Ok(StagedFiles { batch, lines, staged_files: None, filesystem: None });
        }
        for entry in &mut batch.entries {
            if let SpoolBody::Spilled(spilled) = &mut entry.spooled.body {
                spilled.sync()?;
            }
        }
        // Opened before anything is written, because it only reports errors that occur after that.
        let folder = self.staging_folder.path();
        let mut filesystem = match batch.len() {
            ..=SINGLE_SYNCS_MAX => None,
            _ => Some(
                self.disk()
                    .open_filesystem(folder)
                    .map_err(|error| storage_failure("open", folder, &error))?,
            ),
        };
        let staged_files = Some(self.stage_durably(&batch, filesystem.as_mut())?);
        Ok(StagedFiles { batch, lines, staged_files, filesystem })
    }

    /// Renames the documents of a batch to their final paths, or appends them as lines, durably.
    ///
    /// The results are in the order of the batch. A single document fails if its path is
    /// obstructed. [Remove](Self::clear_intent) the [`Intent`] once the ledger has the others.
    ///
    /// # Errors
    /// A storage failure; then no document of the batch counts as stored.
    pub fn publish(
        &self,
        staged: StagedFiles,
    ) -> Result<(Vec<Result<PublishedFile, Failure>>, Intent), Failure> {
        self.staging_folder.verify_owner()?;
        let StagedFiles { batch, lines, staged_files, mut filesystem } = staged;
        let folder = batch.folder.clone();
        let mut intent = Intent { files: None, lines: None };
        let mut published = Vec::new();
        if let Some(DraftFiles { files, intent: list }) = staged_files {
            // From here on the list stays until the ledger has the batch or the next start cleans
            // up.
            intent.files = Some(list.keep());
            published = self.publish_files(batch, files, filesystem.as_mut())?;
        }
        if !lines.is_empty() {
            let (positions, entries): (Vec<_>, Vec<_>) = lines.into_iter().unzip();
            let (appended, unrecorded) = self.append_lines(&folder, &entries)?;
            intent.lines = Some(unrecorded);
            for (position, line) in positions.into_iter().zip(appended) {
                published.insert(position, Ok(line));
            }
        }
        Ok((published, intent))
    }

    /// Removes the intent lists of a batch that is in the ledger.
    pub fn clear_intent(&self, intent: Intent) {
        let Intent { files, lines } = intent;
        let lines = lines.and_then(UnrecordedLines::into_recorded);
        for path in files.into_iter().chain(lines) {
            // A leftover list is harmless: the next start finds its documents in the ledger.
            self.disk().remove_file(&path).ok();
        }
    }

    fn publish_files(
        &self,
        batch: WriteBatch,
        files: Vec<Option<StagedFile>>,
        filesystem: Option<&mut Box<dyn Filesystem>>,
    ) -> Result<Vec<Result<PublishedFile, Failure>>, Failure> {
        let session = self.ensure_session_folder(&batch.folder)?;
        // Includes the session folder. If it already existed, its creator may have crashed before
        // the folder's name was durable.
        let mut folders = BTreeSet::from([session.clone()]);
        let mut published = Vec::with_capacity(batch.entries.len());
        for (entry, staged_file) in batch.entries.into_iter().zip(files) {
            published.push(self.publish_entry(&session, entry, staged_file, &mut folders)?);
        }
        self.sync_folders(&folders, filesystem)?;
        Ok(published)
    }

    fn stage_durably(
        &self,
        batch: &WriteBatch,
        filesystem: Option<&mut Box<dyn Filesystem>>,
    ) -> Result<DraftFiles, Failure> {
        let Some(filesystem) = filesystem else {
            return self.stage_files(batch, SyncMode::PerFile);
        };
        let staged_files = self.stage_files(batch, SyncMode::WholeFilesystem)?;
        match filesystem.sync() {
            Ok(()) => Ok(staged_files),
            Err(_) => {
                *self.lock_manifest() = ManifestState::WriteFailed;
                self.stage_files(batch, SyncMode::PerFile)
            }
        }
    }

    fn stage_files(&self, batch: &WriteBatch, sync: SyncMode) -> Result<DraftFiles, Failure> {
        let extension = &self.format.extension;
        let path = |entry: &BatchEntry| entry.relative_path(extension);
        let documents =
            batch.entries.iter().map(|entry| (&entry.item, &entry.document, path(entry)));
        let list = IntentList::new(&batch.folder, documents);
        let lines = batch.entries.iter().map(|entry| entry.to_manifest_line(path(entry)));
        self.append_manifest(&batch.folder, lines, sync)?;
        let intent = self.stage_file(INTENT_PREFIX, &list.to_bytes(), sync)?;
        let files = batch.entries.iter().map(|entry| match &entry.spooled.body {
            SpoolBody::Memory(buffer) => {
                self.stage_file("draft", buffer.as_bytes(), sync).map(Some)
            }
            SpoolBody::Spilled(_) => Ok(None),
        });
        let files = files.collect::<Result<_, _>>()?;
        if sync == SyncMode::PerFile {
            // Recovery must find the intent list, so its name has to be durable too.
            self.sync_folder(self.staging_folder.path())?;
        }
        Ok(DraftFiles { files, intent })
    }

    /// Appends the documents of a batch to the manifest of its folder before they are published.
    pub(super) fn append_manifest(
        &self,
        folder: &FolderName,
        lines: impl Iterator<Item = ManifestLine>,
        sync: SyncMode,
    ) -> Result<(), Failure> {
        let path = self.ensure_session_folder(folder)?.join(MANIFEST_FILE);
        let lines = to_json_lines(lines);
        let state = &mut *self.lock_manifest();
        let previous = std::mem::replace(state, ManifestState::WriteFailed);
        let is_complete =
            matches!(&previous, ManifestState::Complete(complete) if complete == folder);
        let result = match previous {
            ManifestState::WriteFailed => self.rewrite_manifest(&path, &lines),
            ManifestState::Unknown | ManifestState::Complete(_) => {
                self.extend_manifest(&path, &lines, is_complete, sync)
            }
        };
        result.map_err(|error| storage_failure("write", &path, &error))?;
        *state = ManifestState::Complete(folder.clone());
        Ok(())
    }

    fn extend_manifest(
        &self,
        path: &Path,
        lines: &[u8],
        is_complete: bool,
        sync: SyncMode,
    ) -> io::Result<()> {
        let is_nonempty =
            matches!(self.disk().path_kind(path)?, Some(PathKind::File { bytes: 1.. }));
        let mut bytes = Vec::new();
        // A crash may have truncated the last line.
        if is_nonempty && !is_complete {
            bytes.push(b'\n');
        }
        bytes.extend(lines);
        let mut file = self.disk().open_append(path)?;
        file.append(&bytes)?;
        match sync {
            SyncMode::PerFile => file.sync(),
            SyncMode::WholeFilesystem => Ok(()),
        }
    }

    /// Replaces the manifest by a new file. A file whose sync failed can't be made durable.
    fn rewrite_manifest(&self, path: &Path, lines: &[u8]) -> io::Result<()> {
        let mut bytes = match self.disk().read_file(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(error),
        };
        if !bytes.is_empty() {
            bytes.push(b'\n');
        }
        bytes.extend(lines);
        write_durable(self.disk(), path, &bytes)
    }

    fn lock_manifest(&self) -> MutexGuard<'_, ManifestState> {
        self.manifest_state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the path of a session folder. Creates the folder if it is missing.
    pub(super) fn ensure_session_folder(&self, folder: &FolderName) -> Result<PathBuf, Failure> {
        let session = self.root.join(folder.as_str());
        let created = self.ensure_plain_folder(&session);
        if created.map_err(|error| storage_failure("use the folder", &session, &error))? {
            self.sync_folder(&self.root)?;
        }
        Ok(session)
    }

    fn stage_file(&self, kind: &str, bytes: &[u8], sync: SyncMode) -> Result<StagedFile, Failure> {
        let (staged_file, mut file) = self.staging_folder.create_file(kind)?;
        let result = file.append(bytes).and_then(|()| match sync {
            SyncMode::PerFile => file.sync(),
            SyncMode::WholeFilesystem => Ok(()),
        });
        match result {
            Ok(()) => Ok(staged_file),
            Err(error) => Err(storage_failure("write", staged_file.path(), &error)),
        }
    }

    /// Moves one document to its final path.
    ///
    /// The inner error is an obstructed path, which fails this document only. The outer error is
    /// a full or failing disk, which fails the batch.
    fn publish_entry(
        &self,
        session: &Path,
        entry: BatchEntry,
        staged_file: Option<StagedFile>,
        folders: &mut BTreeSet<PathBuf>,
    ) -> Result<Result<PublishedFile, Failure>, Failure> {
        let relative_path = entry.relative_path(&self.format.extension);
        let path = session.join(&relative_path);
        let thread = path.parent().unwrap_or(session);
        let published = PublishedFile {
            file: relative_path,
            length: entry.spooled.length(),
            sha256: entry.spooled.sha256(),
        };
        let result = self.ensure_thread_folder(thread, folders).and_then(|()| {
            match (staged_file, entry.spooled.body) {
                (Some(staged_file), _) => staged_file.persist(&path),
                (None, SpoolBody::Spilled(spilled)) => spilled.staged_file.persist(&path),
                (None, SpoolBody::Memory(_)) => Err(io::ErrorKind::NotFound.into()),
            }
        });
        match result {
            Ok(()) => Ok(Ok(published)),
            Err(error) => {
                let failure = storage_failure("store", &path, &error);
                if is_obstructed(&error) { Ok(Err(failure)) } else { Err(failure) }
            }
        }
    }

    fn ensure_thread_folder(
        &self,
        thread: &Path,
        folders: &mut BTreeSet<PathBuf>,
    ) -> io::Result<()> {
        if !folders.contains(thread) {
            self.ensure_plain_folder(thread)?;
            folders.insert(thread.to_owned());
        }
        Ok(())
    }

    /// Creates a folder unless it exists. Returns true if it was created. A link is refused.
    fn ensure_plain_folder(&self, path: &Path) -> io::Result<bool> {
        match self.disk().create_dir(path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                match self.disk().path_kind(path)? {
                    Some(PathKind::Folder) => Ok(false),
                    Some(PathKind::File { .. } | PathKind::Other) | None => {
                        Err(io::Error::new(io::ErrorKind::NotADirectory, NOT_A_FOLDER_MESSAGE))
                    }
                }
            }
            created => created.map(|()| true),
        }
    }

    fn sync_folders(
        &self,
        folders: &BTreeSet<PathBuf>,
        filesystem: Option<&mut Box<dyn Filesystem>>,
    ) -> Result<(), Failure> {
        if let Some(filesystem) = filesystem
            && folders.len() > SINGLE_SYNCS_MAX
            // If this sync fails, each folder is synced alone. Unlike bytes, names that failed to
            // reach the disk are not discarded by the kernel: a failed journal fails again below.
            && filesystem.sync().is_ok()
        {
            return Ok(());
        }
        folders.iter().try_for_each(|folder| self.sync_folder(folder))
    }

    pub(super) fn sync_folder(&self, folder: &Path) -> Result<(), Failure> {
        self.disk().sync_dir(folder).map_err(|error| storage_failure("sync", folder, &error))
    }
}

/// True if only the path of this document fails: it is obstructed, or its name is invalid.
fn is_obstructed(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotADirectory | io::ErrorKind::IsADirectory | io::ErrorKind::InvalidFilename
    )
}
