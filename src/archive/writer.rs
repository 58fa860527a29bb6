//! Keeps a group of documents so that a power cut at any instant loses none of them.
//!
//! 1. [Written](Archive::stage_batch): the bytes and the [list of what is intended](IntentList) go to the
//!    staging folder, a line for each document to the [manifest](MANIFEST_FILE) of its folder, and
//!    all are synced.
//! 2. [Placed](Archive::publish): the files are renamed to their places, and the names are synced.
//! 3. The caller commits the group to the ledger, then has the list [forgotten](Archive::clear_intent).
//!
//! While one group is placed and committed, another may be written: each has files and a list
//! of its own.
//!
//! A large group is synced by one `syncfs` per step, which costs about the same for
//! 8 files as for 500. It reports errors of the whole filesystem, whoever caused
//! them. After one, the group is written anew under other names with an fsync for
//! each file, since the files that were being synced are not to be believed any more.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{MutexGuard, PoisonError};

use crate::archive::intent::{INTENT_PREFIX, Intent, IntentList};
use crate::archive::layout::{FolderName, document_path};
use crate::archive::manifest::{MANIFEST_FILE, ManifestLine, ManifestState, to_json_lines};
use crate::archive::recover::NOT_A_FOLDER_MESSAGE;
use crate::archive::spooled_document::{SpoolBody, SpooledDocument};
use crate::archive::staging::StagedFile;
use crate::archive::{Archive, SPOOL_MEMORY_BYTES_MAX};
use crate::disk::{Filesystem, PathKind, storage_failure, write_durable};
use crate::engine::{BlobId, DocumentId, Failure, ItemId};

/// The documents of one group. One that fills, one that is written and one that is placed are at most the 512
/// documents that a crash may cost; larger groups gain next to nothing.
pub const BATCH_DOCUMENTS_MAX: usize = 170;

/// The bytes of one group that are held in memory: 8 MiB, an eighth of what the worker may use.
pub const BATCH_BYTES_MAX: usize = 8 * 1024 * 1024;

/// The long documents of one group: each holds a file open, of which a process has 1,024.
const BATCH_SPILLED_MAX: usize = 32;

/// Up to so many files or folders are synced one by one. An fsync costs about
/// 0.2 ms and a `syncfs` of some hundred small files about 2 ms, and the fsync
/// does not wait for what other programs have written.
const SINGLE_SYNCS_MAX: usize = 8;

/// Documents to be kept together.
#[derive(Debug)]
pub struct WriteBatch {
    folder: FolderName,
    entries: Vec<BatchEntry>,
    memory_bytes: usize,
    spilled_count: usize,
}

/// One document that is in the archive, durably. Its ledger row is still to come.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PublishedFile {
    /// The path below the session's folder.
    pub file: String,
    /// In bytes.
    pub length: u64,
    pub sha256: [u8; 32],
}

/// One document of a group: what names it, and its bytes.
#[derive(Debug)]
pub struct BatchEntry {
    pub item: ItemId,
    pub document: DocumentId,
    /// Under which the source had it.
    pub blob: BlobId,
    /// In bytes, as the source announced it.
    pub size: Option<u64>,
    /// Counts the versions of the document that have a file, from [`FIRST_VERSION`] on.
    ///
    /// [`FIRST_VERSION`]: crate::archive::layout::FIRST_VERSION
    pub version: u32,
    pub spooled: SpooledDocument,
}

impl BatchEntry {
    /// The path below the session's folder.
    fn relative_path(&self) -> String {
        document_path(&self.item, &self.document, self.version)
    }

    fn to_manifest_line(&self) -> ManifestLine {
        let ids = (&self.item, &self.document, &self.blob);
        let bytes = (self.spooled.length(), self.spooled.sha256());
        ManifestLine::new(ids, self.size, bytes, self.relative_path())
    }
}

/// A group whose bytes are durable, all under temporary names. Dropped, it leaves nothing behind.
#[derive(Debug)]
#[must_use = "place it, or it is removed"]
pub struct StagedBatch {
    batch: WriteBatch,
    staged_files: StagedFiles,
    /// Syncs a large group.
    filesystem: Option<Box<dyn Filesystem>>,
}

#[derive(Debug)]
struct StagedFiles {
    /// One per document, in order; `None` for those that were spilled before.
    files: Vec<Option<StagedFile>>,
    intent: StagedFile,
}

/// When a file that is being staged becomes durable.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum SyncMode {
    /// With its own fsync.
    PerFile,
    /// By a `syncfs` after all of them.
    WholeFilesystem,
}

impl WriteBatch {
    /// Starts an empty group for the session whose folder this is.
    #[must_use]
    pub fn new(folder: FolderName) -> Self {
        Self { folder, entries: Vec::new(), memory_bytes: 0, spilled_count: 0 }
    }

    /// Adds a complete document.
    pub fn push(&mut self, paper: BatchEntry) {
        self.memory_bytes += paper.spooled.memory_bytes().len();
        self.spilled_count += usize::from(matches!(paper.spooled.body, SpoolBody::Spilled(_)));
        self.entries.push(paper);
    }

    /// Whether another document might be too much.
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
}

impl Archive {
    /// Writes the documents of a group, durably, beside the archive.
    ///
    /// # Errors
    /// A storage failure; then nothing of the group is left.
    pub fn stage_batch(&self, mut group: WriteBatch) -> Result<StagedBatch, Failure> {
        self.staging_folder.verify_owner()?;
        for paper in &mut group.entries {
            if let SpoolBody::Spilled(spilled) = &mut paper.spooled.body {
                spilled.sync()?;
            }
        }
        // Taken hold of before anything is written, or errors between would go unheard.
        let folder = self.staging_folder.path();
        let mut filesystem = match group.len() {
            ..=SINGLE_SYNCS_MAX => None,
            _ => Some(
                self.disk()
                    .open_filesystem(folder)
                    .map_err(|error| storage_failure("open", folder, &error))?,
            ),
        };
        let staged = self.stage_durably(&group, filesystem.as_mut())?;
        Ok(StagedBatch { batch: group, staged_files: staged, filesystem })
    }

    /// Puts the documents of a group in their places, durably; the answers are in their order.
    ///
    /// A document may fail alone, where its own place is obstructed. The [`Intent`]
    /// is to be [forgotten](Self::clear_intent) once the ledger has the others.
    ///
    /// # Errors
    /// A storage failure; then none of the group counts as kept.
    pub fn publish(
        &self,
        written: StagedBatch,
    ) -> Result<(Vec<Result<PublishedFile, Failure>>, Intent), Failure> {
        self.staging_folder.verify_owner()?;
        let StagedBatch { batch: group, staged_files: staged, mut filesystem } = written;
        // From here on the list stays, until the ledger or the next start has settled it.
        let intent = Intent { path: staged.intent.keep() };
        let session = self.ensure_session_folder(&group.folder)?;
        // Also the session's own: a folder that is there already may be one whose
        // making was cut short before its name was durable.
        let mut folders = BTreeSet::from([session.clone()]);
        let mut kept = Vec::with_capacity(group.entries.len());
        for (paper, file) in group.entries.into_iter().zip(staged.files) {
            kept.push(self.publish_entry(&session, paper, file, &mut folders)?);
        }
        self.sync_folders(&folders, filesystem.as_mut())?;
        Ok((kept, intent))
    }

    /// Removes the list of a group that the ledger has.
    pub fn clear_intent(&self, intent: Intent) {
        let Intent { path } = intent;
        // One that stays is harmless: the next start finds its documents in the ledger.
        self.disk().remove_file(&path).ok();
    }

    fn stage_durably(
        &self,
        group: &WriteBatch,
        filesystem: Option<&mut Box<dyn Filesystem>>,
    ) -> Result<StagedFiles, Failure> {
        let Some(filesystem) = filesystem else {
            return self.stage_files(group, SyncMode::PerFile);
        };
        let staged = self.stage_files(group, SyncMode::WholeFilesystem)?;
        match filesystem.sync() {
            Ok(()) => Ok(staged),
            Err(_) => {
                *self.lock_manifest() = ManifestState::WriteFailed;
                self.stage_files(group, SyncMode::PerFile)
            }
        }
    }

    fn stage_files(&self, group: &WriteBatch, sync: SyncMode) -> Result<StagedFiles, Failure> {
        let named =
            group.entries.iter().map(|paper| (&paper.item, &paper.document, paper.relative_path()));
        let list = IntentList::new(&group.folder, named);
        self.append_manifest(group, sync)?;
        let intent = self.stage_file(INTENT_PREFIX, &list.to_bytes(), sync)?;
        let files = group.entries.iter().map(|paper| match &paper.spooled.body {
            SpoolBody::Memory(bytes) => self.stage_file("draft", bytes, sync).map(Some),
            SpoolBody::Spilled(_) => Ok(None),
        });
        let files = files.collect::<Result<_, _>>()?;
        if sync == SyncMode::PerFile {
            // The list must be found again: its name is what has to be durable here.
            self.sync_folder(self.staging_folder.path())?;
        }
        Ok(StagedFiles { files, intent })
    }

    /// Names the documents of a group in the manifest of its folder, before they are there.
    fn append_manifest(&self, group: &WriteBatch, sync: SyncMode) -> Result<(), Failure> {
        let path = self.ensure_session_folder(&group.folder)?.join(MANIFEST_FILE);
        let lines = to_json_lines(group.entries.iter().map(BatchEntry::to_manifest_line));
        let state = &mut *self.lock_manifest();
        let known = std::mem::replace(state, ManifestState::WriteFailed);
        let is_whole = matches!(&known, ManifestState::Complete(folder) if *folder == group.folder);
        let written = match known {
            ManifestState::WriteFailed => self.rewrite_manifest(&path, &lines),
            ManifestState::Unknown | ManifestState::Complete(_) => {
                self.extend_manifest(&path, &lines, is_whole, sync)
            }
        };
        written.map_err(|error| storage_failure("write", &path, &error))?;
        *state = ManifestState::Complete(group.folder.clone());
        Ok(())
    }

    fn extend_manifest(
        &self,
        path: &Path,
        lines: &[u8],
        is_whole: bool,
        sync: SyncMode,
    ) -> io::Result<()> {
        let is_begun = matches!(self.disk().path_kind(path)?, Some(PathKind::File { bytes: 1.. }));
        let mut bytes = Vec::new();
        // The last line may be one that a crash has cut short.
        if is_begun && !is_whole {
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

    /// Writes a manifest again under another name: nothing makes a file durable whose sync failed.
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

    /// Returns the path of a session's folder, which is made again where it is gone.
    fn ensure_session_folder(&self, folder: &FolderName) -> Result<PathBuf, Failure> {
        let session = self.root.join(folder.as_str());
        let made = self.ensure_plain_folder(&session);
        if made.map_err(|error| storage_failure("use the folder", &session, &error))? {
            self.sync_folder(&self.root)?;
        }
        Ok(session)
    }

    fn stage_file(&self, kind: &str, bytes: &[u8], sync: SyncMode) -> Result<StagedFile, Failure> {
        let (staged, mut file) = self.staging_folder.create_file(kind)?;
        let written = file.append(bytes).and_then(|()| match sync {
            SyncMode::PerFile => file.sync(),
            SyncMode::WholeFilesystem => Ok(()),
        });
        match written {
            Ok(()) => Ok(staged),
            Err(error) => Err(storage_failure("write", staged.path(), &error)),
        }
    }

    /// Moves one document to its place. What stands in its way is its own trouble, and no
    /// other's; a disk that is full or failing is everyone's.
    fn publish_entry(
        &self,
        session: &Path,
        paper: BatchEntry,
        file: Option<StagedFile>,
        folders: &mut BTreeSet<PathBuf>,
    ) -> Result<Result<PublishedFile, Failure>, Failure> {
        let below = paper.relative_path();
        let path = session.join(&below);
        let thread = path.parent().unwrap_or(session);
        let kept = PublishedFile {
            file: below,
            length: paper.spooled.length(),
            sha256: paper.spooled.sha256(),
        };
        let placed = self.ensure_thread_folder(thread, folders).and_then(|()| {
            match (file, paper.spooled.body) {
                (Some(staged), _) => staged.persist(&path),
                (None, SpoolBody::Spilled(spilled)) => spilled.staged_file.persist(&path),
                (None, SpoolBody::Memory(_)) => Err(io::ErrorKind::NotFound.into()),
            }
        });
        match placed {
            Ok(()) => Ok(Ok(kept)),
            Err(error) => {
                let failure = storage_failure("keep", &path, &error);
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

    /// Makes a folder unless it is there, and says whether it did. A link to one is refused.
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
            made => made.map(|()| true),
        }
    }

    fn sync_folders(
        &self,
        folders: &BTreeSet<PathBuf>,
        filesystem: Option<&mut Box<dyn Filesystem>>,
    ) -> Result<(), Failure> {
        if let Some(filesystem) = filesystem
            && folders.len() > SINGLE_SYNCS_MAX
            // Unlike bytes, names that failed to reach the disk are not forgotten by
            // the kernel: their journal fails as a whole, and says so again below.
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

/// Whether a document has no place because of what stands there.
fn is_obstructed(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotADirectory | io::ErrorKind::IsADirectory | io::ErrorKind::InvalidFilename
    )
}
