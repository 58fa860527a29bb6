//! Keeps a group of documents so that a power cut at any instant loses none of them.
//!
//! 1. [Written](Archive::write): the bytes and the [list of what is intended](IntentList) go to the
//!    staging folder, a line for each document to the [manifest](MANIFEST_FILE) of its folder, and
//!    all are synced.
//! 2. [Placed](Archive::place): the files are renamed to their places, and the names are synced.
//! 3. The caller commits the group to the ledger, then has the list [forgotten](Archive::forget).
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

use crate::archive::draft::{Body, Draft};
use crate::archive::intent::{INTENT, Intent, IntentList};
use crate::archive::layout::{FolderName, document_path};
use crate::archive::manifest::{MANIFEST_FILE, ManifestLine, ManifestState, render};
use crate::archive::recover::NOT_A_FOLDER;
use crate::archive::staging::Staged;
use crate::archive::{Archive, DRAFT_BYTES_MAX};
use crate::disk::{Filesystem, PathKind, storage_failure, write_atomic};
use crate::engine::{BlobId, DocumentId, Failure, ItemId};

/// The documents of one group. One that fills, one that is written and one that is placed are at most the 512
/// documents that a crash may cost; larger groups gain next to nothing.
pub const GROUP_DOCUMENTS_MAX: usize = 170;

/// The bytes of one group that are held in memory: 8 MiB, an eighth of what the worker may use.
pub const GROUP_BYTES_MAX: usize = 8 * 1024 * 1024;

/// The long documents of one group: each holds a file open, of which a process has 1,024.
const GROUP_SPILLED_MAX: usize = 32;

/// Up to so many files or folders are synced one by one. An fsync costs about
/// 0.2 ms and a `syncfs` of some hundred small files about 2 ms, and the fsync
/// does not wait for what other programs have written.
const SYNC_EACH_MAX: usize = 8;

/// Documents to be kept together.
#[derive(Debug)]
pub struct Group {
    folder: FolderName,
    papers: Vec<Paper>,
    memory_bytes: usize,
    spilled: usize,
}

/// One document that is in the archive, durably. Its ledger row is still to come.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Kept {
    /// The path below the session's folder.
    pub file: String,
    /// In bytes.
    pub length: u64,
    pub sha256: [u8; 32],
}

/// One document of a group: what names it, and its bytes.
#[derive(Debug)]
pub struct Paper {
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
    pub draft: Draft,
}

impl Paper {
    /// The path below the session's folder.
    fn file(&self) -> String {
        document_path(&self.item, &self.document, self.version)
    }

    fn manifest_line(&self) -> ManifestLine {
        let ids = (&self.item, &self.document, &self.blob);
        let bytes = (self.draft.length(), self.draft.sha256());
        ManifestLine::new(ids, self.size, bytes, self.file())
    }
}

/// A group whose bytes are durable, all under temporary names. Dropped, it leaves nothing behind.
#[derive(Debug)]
#[must_use = "place it, or it is removed"]
pub struct Written {
    group: Group,
    staged: StagedGroup,
    /// Syncs a large group.
    filesystem: Option<Box<dyn Filesystem>>,
}

#[derive(Debug)]
struct StagedGroup {
    /// One per document, in order; `None` for those that were spilled before.
    files: Vec<Option<Staged>>,
    intent: Staged,
}

/// When a file that is being staged becomes durable.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Sync {
    /// With its own fsync.
    Each,
    /// By a `syncfs` after all of them.
    Together,
}

impl Group {
    /// Starts an empty group for the session whose folder this is.
    #[must_use]
    pub fn new(folder: FolderName) -> Self {
        Self { folder, papers: Vec::new(), memory_bytes: 0, spilled: 0 }
    }

    /// Adds a complete document.
    pub fn push(&mut self, paper: Paper) {
        self.memory_bytes += paper.draft.memory().len();
        self.spilled += usize::from(matches!(paper.draft.body, Body::Spilled(_)));
        self.papers.push(paper);
    }

    /// Whether another document might be too much.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.papers.len() >= GROUP_DOCUMENTS_MAX
            || self.memory_bytes + DRAFT_BYTES_MAX > GROUP_BYTES_MAX
            || self.spilled >= GROUP_SPILLED_MAX
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.papers.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.papers.is_empty()
    }
}

impl Archive {
    /// Writes the documents of a group, durably, beside the archive.
    ///
    /// # Errors
    /// A storage failure; then nothing of the group is left.
    pub fn write(&self, mut group: Group) -> Result<Written, Failure> {
        self.staging.verify()?;
        for paper in &mut group.papers {
            if let Body::Spilled(spilled) = &mut paper.draft.body {
                spilled.sync()?;
            }
        }
        // Taken hold of before anything is written, or errors between would go unheard.
        let folder = self.staging.folder();
        let mut filesystem = match group.len() {
            ..=SYNC_EACH_MAX => None,
            _ => Some(
                self.disk()
                    .filesystem(folder)
                    .map_err(|error| storage_failure("open", folder, &error))?,
            ),
        };
        let staged = self.stage(&group, filesystem.as_mut())?;
        Ok(Written { group, staged, filesystem })
    }

    /// Puts the documents of a group in their places, durably; the answers are in their order.
    ///
    /// A document may fail alone, where its own place is obstructed. The [`Intent`]
    /// is to be [forgotten](Self::forget) once the ledger has the others.
    ///
    /// # Errors
    /// A storage failure; then none of the group counts as kept.
    pub fn place(&self, written: Written) -> Result<(Vec<Result<Kept, Failure>>, Intent), Failure> {
        self.staging.verify()?;
        let Written { group, staged, mut filesystem } = written;
        // From here on the list stays, until the ledger or the next start has settled it.
        let intent = Intent { path: staged.intent.leave() };
        let session = self.ensure_session_folder(&group.folder)?;
        // Also the session's own: a folder that is there already may be one whose
        // making was cut short before its name was durable.
        let mut folders = BTreeSet::from([session.clone()]);
        let mut kept = Vec::with_capacity(group.papers.len());
        for (paper, file) in group.papers.into_iter().zip(staged.files) {
            kept.push(self.place_one(&session, paper, file, &mut folders)?);
        }
        self.sync_names(&folders, filesystem.as_mut())?;
        Ok((kept, intent))
    }

    /// Removes the list of a group that the ledger has.
    pub fn forget(&self, intent: Intent) {
        let Intent { path } = intent;
        // One that stays is harmless: the next start finds its documents in the ledger.
        self.disk().remove_file(&path).ok();
    }

    fn stage(
        &self,
        group: &Group,
        filesystem: Option<&mut Box<dyn Filesystem>>,
    ) -> Result<StagedGroup, Failure> {
        let Some(filesystem) = filesystem else { return self.stage_files(group, Sync::Each) };
        let staged = self.stage_files(group, Sync::Together)?;
        match filesystem.sync() {
            Ok(()) => Ok(staged),
            Err(_) => {
                *self.manifest() = ManifestState::Distrusted;
                self.stage_files(group, Sync::Each)
            }
        }
    }

    fn stage_files(&self, group: &Group, sync: Sync) -> Result<StagedGroup, Failure> {
        let named = group.papers.iter().map(|paper| (&paper.item, &paper.document, paper.file()));
        let list = IntentList::new(&group.folder, named);
        self.append_manifest(group, sync)?;
        let intent = self.stage_file(INTENT, &list.to_bytes(), sync)?;
        let files = group.papers.iter().map(|paper| match &paper.draft.body {
            Body::Memory(bytes) => self.stage_file("draft", bytes, sync).map(Some),
            Body::Spilled(_) => Ok(None),
        });
        let files = files.collect::<Result<_, _>>()?;
        if sync == Sync::Each {
            // The list must be found again: its name is what has to be durable here.
            self.sync_folder(self.staging.folder())?;
        }
        Ok(StagedGroup { files, intent })
    }

    /// Names the documents of a group in the manifest of its folder, before they are there.
    fn append_manifest(&self, group: &Group, sync: Sync) -> Result<(), Failure> {
        let path = self.ensure_session_folder(&group.folder)?.join(MANIFEST_FILE);
        let lines = render(group.papers.iter().map(Paper::manifest_line));
        let state = &mut *self.manifest();
        let known = std::mem::replace(state, ManifestState::Distrusted);
        let is_whole = matches!(&known, ManifestState::Whole(folder) if *folder == group.folder);
        let written = match known {
            ManifestState::Distrusted => self.rewrite_manifest(&path, &lines),
            ManifestState::Unknown | ManifestState::Whole(_) => {
                self.extend_manifest(&path, &lines, is_whole, sync)
            }
        };
        written.map_err(|error| storage_failure("write", &path, &error))?;
        *state = ManifestState::Whole(group.folder.clone());
        Ok(())
    }

    fn extend_manifest(
        &self,
        path: &Path,
        lines: &[u8],
        is_whole: bool,
        sync: Sync,
    ) -> io::Result<()> {
        let is_begun = matches!(self.disk().kind(path)?, Some(PathKind::File { bytes: 1.. }));
        let mut bytes = Vec::new();
        // The last line may be one that a crash has cut short.
        if is_begun && !is_whole {
            bytes.push(b'\n');
        }
        bytes.extend(lines);
        let mut file = self.disk().append_to(path)?;
        file.append(&bytes)?;
        match sync {
            Sync::Each => file.sync(),
            Sync::Together => Ok(()),
        }
    }

    /// Writes a manifest again under another name: nothing makes a file durable whose sync failed.
    fn rewrite_manifest(&self, path: &Path, lines: &[u8]) -> io::Result<()> {
        let mut bytes = match self.disk().read(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(error),
        };
        if !bytes.is_empty() {
            bytes.push(b'\n');
        }
        bytes.extend(lines);
        write_atomic(self.disk(), path, &bytes)
    }

    fn manifest(&self) -> MutexGuard<'_, ManifestState> {
        self.manifest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the path of a session's folder, which is made again where it is gone.
    fn ensure_session_folder(&self, folder: &FolderName) -> Result<PathBuf, Failure> {
        let session = self.root.join(folder.as_str());
        let made = self.ensure_own_folder(&session);
        if made.map_err(|error| storage_failure("use the folder", &session, &error))? {
            self.sync_folder(&self.root)?;
        }
        Ok(session)
    }

    fn stage_file(&self, kind: &str, bytes: &[u8], sync: Sync) -> Result<Staged, Failure> {
        let (staged, mut file) = self.staging.create(kind)?;
        let written = file.append(bytes).and_then(|()| match sync {
            Sync::Each => file.sync(),
            Sync::Together => Ok(()),
        });
        match written {
            Ok(()) => Ok(staged),
            Err(error) => Err(storage_failure("write", staged.path(), &error)),
        }
    }

    /// Moves one document to its place. What stands in its way is its own trouble, and no
    /// other's; a disk that is full or failing is everyone's.
    fn place_one(
        &self,
        session: &Path,
        paper: Paper,
        file: Option<Staged>,
        folders: &mut BTreeSet<PathBuf>,
    ) -> Result<Result<Kept, Failure>, Failure> {
        let below = paper.file();
        let path = session.join(&below);
        let thread = path.parent().unwrap_or(session);
        let kept = Kept { file: below, length: paper.draft.length(), sha256: paper.draft.sha256() };
        let placed =
            self.own_folder_of(thread, folders).and_then(|()| match (file, paper.draft.body) {
                (Some(staged), _) => staged.move_to(&path),
                (None, Body::Spilled(spilled)) => spilled.staged.move_to(&path),
                (None, Body::Memory(_)) => Err(io::ErrorKind::NotFound.into()),
            });
        match placed {
            Ok(()) => Ok(Ok(kept)),
            Err(error) => {
                let failure = storage_failure("keep", &path, &error);
                if is_obstructed(&error) { Ok(Err(failure)) } else { Err(failure) }
            }
        }
    }

    fn own_folder_of(&self, thread: &Path, folders: &mut BTreeSet<PathBuf>) -> io::Result<()> {
        if !folders.contains(thread) {
            self.ensure_own_folder(thread)?;
            folders.insert(thread.to_owned());
        }
        Ok(())
    }

    /// Makes a folder unless it is there, and says whether it did. A link to one is refused.
    fn ensure_own_folder(&self, path: &Path) -> io::Result<bool> {
        match self.disk().create_dir(path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                match self.disk().kind(path)? {
                    Some(PathKind::Folder) => Ok(false),
                    Some(PathKind::File { .. } | PathKind::Other) | None => {
                        Err(io::Error::new(io::ErrorKind::NotADirectory, NOT_A_FOLDER))
                    }
                }
            }
            made => made.map(|()| true),
        }
    }

    fn sync_names(
        &self,
        folders: &BTreeSet<PathBuf>,
        filesystem: Option<&mut Box<dyn Filesystem>>,
    ) -> Result<(), Failure> {
        if let Some(filesystem) = filesystem
            && folders.len() > SYNC_EACH_MAX
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
