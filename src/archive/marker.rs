//! Marker of a source in an archive: names the ledger that the documents there belong to.
//!
//! It is stored as `<archive>/.cynosure/<source>/owner.json`, beside a lock file. A folder without
//! the marker is not the archive of a ledger that has stored documents: the archive is not mounted,
//! or was moved away. A marker that names another ledger belongs to documents that this ledger does
//! not know. In both cases nothing is created or changed.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use cynosure_engine::{Cause, Failure, LedgerId};
use serde::{Deserialize, Serialize};

use crate::archive::intent::INTENT_PREFIX;
use crate::archive::layout::encode_id;
use crate::disk::{Disk, PathKind, ensure_folder, storage_failure, write_durable};

/// File name of the marker.
pub const MARKER_FILE: &str = "owner.json";

/// File name of the lock beside the marker. The single worker of the source holds it.
pub const MARKER_LOCK_FILE: &str = "lock";

/// Folder in the archive's root that holds a staging folder for each source.
pub(super) const STAGING_ROOT: &str = ".cynosure";

/// Message about a link or a file in place of a folder.
pub(super) const NOT_A_FOLDER_MESSAGE: &str =
    "a link or a file is in its place, and links are not followed; remove it";

/// Schema version that this program reads and writes.
const SCHEMA: u32 = 1;

/// Contents of a marker.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct ArchiveOwner {
    schema: u32,
    ledger: String,
    /// Account as the server names it. `None` until it is known.
    #[serde(default)]
    account: Option<String>,
    source: String,
    /// True once the ledger has recorded the marker and may have stored documents here.
    #[serde(default)]
    #[serde(rename = "holds_documents")]
    has_documents: bool,
}

/// Identity that a ledger presents when it asks for its archive.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct LedgerClaim {
    /// `None` before the ledger has an id.
    pub ledger: Option<LedgerId>,
    pub account: Option<String>,
    /// True if documents of this ledger are stored in an archive.
    pub has_stored_documents: bool,
}

/// Relation of a marker to a ledger that may use the archive.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ArchiveBinding {
    /// The marker names this ledger.
    Ours(ArchiveOwner),
    /// There is no marker, or one of a ledger that has stored nothing here.
    Unclaimed,
}

/// Reason why a ledger may not use an archive.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum OwnerMismatch {
    /// The documents of the ledger are in another place.
    ArchiveMissing,
    /// The archive has documents, and the ledger knows of none.
    LedgerEmpty,
    /// The archive has documents of another ledger, and this ledger has documents in another place.
    OtherLedger,
}

/// State of the marker on disk.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum MarkerState<'a> {
    /// Neither the marker nor its folder exists.
    Absent,
    /// Only the source's folder exists, as created by version 0.1.0.
    FolderOnly,
    Owned(&'a ArchiveOwner),
}

/// Location of a source's marker, and the operations on it.
#[derive(Clone, Debug)]
pub struct ArchiveMarker {
    disk: Arc<dyn Disk>,
    root: PathBuf,
    folder: PathBuf,
    source: String,
}

impl ArchiveOwner {
    /// Creates the contents of a marker that names a ledger and its source, without documents.
    #[must_use]
    pub fn new(ledger: &LedgerId, account: Option<String>, source: &str) -> Self {
        Self {
            schema: SCHEMA,
            ledger: ledger.as_str().to_owned(),
            account,
            source: source.to_owned(),
            has_documents: false,
        }
    }

    /// Sets the flag that documents may be stored in the archive.
    #[must_use]
    pub fn with_documents(self) -> Self {
        Self { has_documents: true, ..self }
    }

    #[must_use]
    pub fn has_documents(&self) -> bool {
        self.has_documents
    }
}

impl ArchiveMarker {
    /// Locates the marker of `source` in the archive at `root`.
    #[must_use]
    pub fn new(disk: Arc<dyn Disk>, root: &Path, source: &str) -> Self {
        let folder = root.join(STAGING_ROOT).join(encode_id(source));
        Self { disk, root: root.to_owned(), folder, source: source.to_owned() }
    }

    /// Path of the lock that the single worker of the source holds.
    #[must_use]
    pub fn lock_file(&self) -> PathBuf {
        self.folder.join(MARKER_LOCK_FILE)
    }

    /// Path of the marker.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.folder.join(MARKER_FILE)
    }

    pub(super) fn disk(&self) -> &Arc<dyn Disk> {
        &self.disk
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Decides whether a ledger may use the archive. Changes nothing.
    ///
    /// # Errors
    /// A storage failure whose message gives the problem and the remedy.
    pub fn check_claim(&self, claim: &LedgerClaim) -> Result<ArchiveBinding, Failure> {
        let owner = self.read()?;
        let state = match &owner {
            Some(owner) => MarkerState::Owned(owner),
            None if self.path_kind(&self.folder)? == Some(PathKind::Folder) => {
                MarkerState::FolderOnly
            }
            None => MarkerState::Absent,
        };
        decide_binding(state, claim).map_err(|mismatch| self.mismatch_failure(mismatch, claim))
    }

    /// Creates the folder of the marker and its missing parents.
    ///
    /// # Errors
    /// A storage failure; also if a link takes the place of a folder below the archive's root.
    pub fn create_folder(&self) -> Result<(), Failure> {
        let ensure = |path: &Path| {
            ensure_folder(&*self.disk, path)
                .map_err(|error| storage_failure("create the folder", path, &error))
        };
        ensure(&self.root)?;
        for path in [&self.root.join(STAGING_ROOT), &self.folder] {
            ensure(path)?;
            if self.path_kind(path)? != Some(PathKind::Folder) {
                let error = std::io::Error::other(NOT_A_FOLDER_MESSAGE);
                return Err(storage_failure("use the folder", path, &error));
            }
        }
        Ok(())
    }

    /// Writes the marker, durably.
    ///
    /// # Errors
    /// A storage failure.
    pub fn write(&self, owner: &ArchiveOwner) -> Result<(), Failure> {
        let path = self.path();
        let mut bytes = serde_json::to_vec_pretty(owner).unwrap_or_default();
        bytes.push(b'\n');
        write_durable(&*self.disk, &path, &bytes)
            .map_err(|error| storage_failure("write", &path, &error))
    }

    /// Reads the marker. `None` if it does not exist.
    ///
    /// # Errors
    /// A storage failure; also if the marker can't be parsed or has a newer schema.
    pub fn read(&self) -> Result<Option<ArchiveOwner>, Failure> {
        let path = self.path();
        // A file in place of the archive's folder means that there is no marker.
        let bytes = match self.disk.read_file(&path) {
            Ok(bytes) => bytes,
            Err(error)
                if matches!(
                    error.kind(),
                    std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory
                ) =>
            {
                return Ok(None);
            }
            Err(error) => return Err(storage_failure("read", &path, &error)),
        };
        match serde_json::from_slice::<ArchiveOwner>(&bytes) {
            Ok(owner) if owner.schema <= SCHEMA => Ok(Some(owner)),
            Ok(owner) => Err(self.unreadable_failure(&format!("its schema is {}", owner.schema))),
            Err(error) => Err(self.unreadable_failure(&error.to_string())),
        }
    }

    /// Checks that the marker is still there and names the ledger of `owner`.
    ///
    /// # Errors
    /// A storage failure, for example if the archive was unmounted or moved away.
    pub fn verify(&self, owner: &ArchiveOwner) -> Result<(), Failure> {
        match self.read()? {
            Some(found) if found.ledger == owner.ledger => Ok(()),
            Some(_) => {
                Err(self.mismatch_failure(OwnerMismatch::OtherLedger, &LedgerClaim::default()))
            }
            None => {
                Err(self.mismatch_failure(OwnerMismatch::ArchiveMissing, &LedgerClaim::default()))
            }
        }
    }

    /// Removes all intent lists. Only valid for a ledger that knows all documents in the archive.
    ///
    /// # Errors
    /// A storage failure.
    pub fn remove_intents(&self) -> Result<(), Failure> {
        let folder = &self.folder;
        let names =
            self.disk.list_dir(folder).map_err(|error| storage_failure("list", folder, &error))?;
        for name in names.iter().filter(|name| name.to_string_lossy().starts_with(INTENT_PREFIX)) {
            let path = folder.join(name);
            let result = self.disk.remove_file(&path);
            result.map_err(|error| storage_failure("remove", &path, &error))?;
        }
        Ok(())
    }

    fn path_kind(&self, path: &Path) -> Result<Option<PathKind>, Failure> {
        self.disk.path_kind(path).map_err(|error| storage_failure("access", path, &error))
    }

    fn unreadable_failure(&self, reason: &str) -> Failure {
        let (path, source) = (self.path(), &self.source);
        Failure::new(
            Cause::Storage,
            format!(
                "cannot understand {} ({reason}): a newer cynosure wrote it, or it is damaged; install \
                 that version again, or stop cynosure, remove the file, and run \
                 `cynosure adopt {source}`",
                path.display()
            ),
        )
    }

    fn mismatch_failure(&self, mismatch: OwnerMismatch, claim: &LedgerClaim) -> Failure {
        let (root, source, path) = (self.root.display(), &self.source, self.path());
        let (path, folder) = (path.display(), self.folder.display());
        let detail = match mismatch {
            OwnerMismatch::ArchiveMissing
                if claim.has_stored_documents && claim.ledger.is_none() =>
            {
                format!(
                    "{root} is not the archive of {source}: there is no {folder}; mount the archive or \
                 put it back, and the work resumes by itself (if it is the archive, create that \
                 folder)"
                )
            }
            OwnerMismatch::ArchiveMissing => format!(
                "{root} is not the archive of {source}: there is no {path}; mount the archive or \
                 put it back, and the work resumes by itself (to continue in a new place, move \
                 the folder `{STAGING_ROOT}` of the old archive there)"
            ),
            OwnerMismatch::LedgerEmpty => format!(
                "{root} holds documents of {source} that its ledger does not know: put a copy of \
                 the ledger back, or stop cynosure and run `cynosure adopt {source}`, which \
                 rebuilds it from the archive; `cynosure reset {source} --yes` lists and fetches \
                 everything again and keeps the files"
            ),
            OwnerMismatch::OtherLedger => format!(
                "{root} belongs to another ledger of a source {source} ({path} names it): correct \
                 `dir` of [archive], name one of the two sources differently, or put back the \
                 ledger that belongs to the archive"
            ),
        };
        Failure::new(Cause::Storage, detail)
    }
}

fn decide_binding(
    state: MarkerState<'_>,
    claim: &LedgerClaim,
) -> Result<ArchiveBinding, OwnerMismatch> {
    // The marker is written first, then the ledger gets its id, then documents are stored. So the
    // archive of a ledger with an id and documents has a marker. A ledger of version 0.1.0 has no
    // id, and its archive has only the folder.
    let has_stored_documents = claim.has_stored_documents;
    match (state, &claim.ledger) {
        (MarkerState::Owned(owner), Some(id)) if owner.ledger == id.as_str() => {
            Ok(ArchiveBinding::Ours(owner.clone()))
        }
        (MarkerState::Owned(owner), id) if !owner.has_documents => match id {
            Some(_) if has_stored_documents => Err(OwnerMismatch::ArchiveMissing),
            Some(_) | None => Ok(ArchiveBinding::Unclaimed),
        },
        (MarkerState::Owned(_), _) if has_stored_documents => Err(OwnerMismatch::OtherLedger),
        (MarkerState::Owned(_), _) => Err(OwnerMismatch::LedgerEmpty),
        (MarkerState::FolderOnly, Some(_)) | (MarkerState::Absent, _) if has_stored_documents => {
            Err(OwnerMismatch::ArchiveMissing)
        }
        (MarkerState::FolderOnly | MarkerState::Absent, _) => Ok(ArchiveBinding::Unclaimed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::MemoryDisk;

    const ROOT: &str = "/downloads";

    fn test_marker(disk: &MemoryDisk) -> ArchiveMarker {
        ArchiveMarker::new(Arc::new(disk.clone()), Path::new(ROOT), "work")
    }

    fn test_claim(id: Option<&str>, has_stored_documents: bool) -> LedgerClaim {
        LedgerClaim { ledger: id.map(LedgerId::new), account: None, has_stored_documents }
    }

    fn test_owner(id: &str) -> ArchiveOwner {
        ArchiveOwner::new(&LedgerId::new(id), None, "work")
    }

    /// FAULTS 51: every marker, or none, for every ledger, with and without documents.
    #[test]
    fn each_ledger_gets_its_own_archive_and_no_other() {
        let (own_empty, own_full) = (test_owner("a"), test_owner("a").with_documents());
        let (other_empty, other_full) = (test_owner("b"), test_owner("b").with_documents());
        let new = test_claim(None, false);
        let old_format = test_claim(None, true);
        let (empty, full) = (test_claim(Some("a"), false), test_claim(Some("a"), true));
        let cases = [
            (
                MarkerState::Absent,
                [
                    None,
                    Some(OwnerMismatch::ArchiveMissing),
                    None,
                    Some(OwnerMismatch::ArchiveMissing),
                ],
            ),
            (MarkerState::FolderOnly, [None, None, None, Some(OwnerMismatch::ArchiveMissing)]),
            (MarkerState::Owned(&own_empty), [None; 4]),
            (
                MarkerState::Owned(&own_full),
                [Some(OwnerMismatch::LedgerEmpty), Some(OwnerMismatch::OtherLedger), None, None],
            ),
            (
                MarkerState::Owned(&other_empty),
                [None, None, None, Some(OwnerMismatch::ArchiveMissing)],
            ),
            (
                MarkerState::Owned(&other_full),
                [
                    Some(OwnerMismatch::LedgerEmpty),
                    Some(OwnerMismatch::OtherLedger),
                    Some(OwnerMismatch::LedgerEmpty),
                    Some(OwnerMismatch::OtherLedger),
                ],
            ),
        ];
        for (state, mismatches) in cases {
            for (claim, mismatch) in [&new, &old_format, &empty, &full].iter().zip(mismatches) {
                assert_eq!(decide_binding(state, claim).err(), mismatch, "{state:?} for {claim:?}");
            }
        }
    }

    #[test]
    fn checking_a_claim_changes_nothing() {
        let disk = MemoryDisk::default();

        let error = test_marker(&disk).check_claim(&test_claim(Some("a"), true)).unwrap_err();

        assert_eq!(error.cause, Cause::Storage);
        assert_eq!(disk.path_kind(Path::new(ROOT)).unwrap(), None);
    }

    #[test]
    fn a_removed_marker_fails_the_check() {
        let disk = MemoryDisk::default();
        let (marker, owner) = (test_marker(&disk), test_owner("a"));
        marker.create_folder().unwrap();
        marker.write(&owner).unwrap();
        marker.verify(&owner).unwrap();

        disk.remove_file(&marker.path()).unwrap();

        let error = marker.verify(&owner).unwrap_err();
        assert!(error.message.starts_with("/downloads is not the archive of work"), "{error}");
    }

    #[test]
    fn a_marker_of_a_newer_format_is_refused() {
        let disk = MemoryDisk::default();
        let marker = test_marker(&disk);
        marker.create_folder().unwrap();
        marker.write(&ArchiveOwner { schema: 2, ..test_owner("a") }).unwrap();

        let error = marker.check_claim(&test_claim(Some("a"), true)).unwrap_err();

        assert!(error.message.contains("its schema is 2"), "{error}");
    }
}
