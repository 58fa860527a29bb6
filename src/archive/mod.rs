//! Archive of downloaded documents: files on disk, or lines of a file.
//!
//! A document is stored at `downloads/<session>/<thread>/<message>.eml`, with the extension of its
//! [`DocumentFormat`]. A hidden staging folder per source, beside the session folders, holds files
//! until they are complete and durable. A document is stored once its bytes are on disk, then its
//! name, then its row in the ledger. [`FileArchive::open`] removes whatever a crash leaves between two
//! of these steps. An [`ArchiveMarker`] names the ledger that the documents belong to.
//!
//! The worker writes to an [`Archive`]; [`FileArchive`] keeps it in a folder.
//!
//! With [`RecordLayout::Lines`], documents are lines of `downloads/<session>/records.jsonl`.

mod adopt;
mod file_batch;
mod format;
mod intent;
pub mod layout;
mod line_file;
mod line_writer;
mod manifest;
mod marker;
mod recover;
mod spool_memory;
mod spooled_document;
mod staging;
pub mod verify;
mod worker_archive;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

pub use self::adopt::{FolderContents, FoundDocument, SkipReason};
pub use self::format::{DocumentFormat, FileExtension, RecordLayout};
pub use self::intent::Intent;
pub use self::layout::FolderName;
pub use self::line_file::{LINES_FILE, RecordedLines, parse_line_place};
pub use self::marker::{
    ArchiveBinding, ArchiveMarker, ArchiveOwner, LedgerClaim, MARKER_FILE, MARKER_LOCK_FILE,
};
pub use self::recover::{ArchiveLocation, RecoveryReport};
pub use self::spool_memory::BATCH_BYTES_MAX;
pub use self::spooled_document::{SPOOL_MEMORY_BYTES_MAX, SpooledDocument};
pub use self::worker_archive::{Archive, IsStored, PublishedBatch, StagedBatch};
pub use self::writer::{BATCH_DOCUMENTS_MAX, BatchEntry, PublishedFile, StagedFiles, WriteBatch};

use cynosure_engine::{Failure, Timestamp};

use self::line_file::SharedLineState;
use self::manifest::ManifestState;
use self::staging::StagingFolder;
use crate::disk::{Disk, storage_failure};

/// Maximum number of session folders with the same account and start second. A number in the
/// name distinguishes them.
const FOLDER_NUMBER_MAX: u32 = 100;

/// Archive of one source in a folder, open for writing by its one worker.
#[derive(Debug)]
pub struct FileArchive {
    root: PathBuf,
    format: DocumentFormat,
    staging_folder: Arc<StagingFolder>,
    manifest_state: Mutex<ManifestState>,
    line_state: SharedLineState,
}

impl FileArchive {
    /// Starts to spool a document of unknown length.
    #[must_use]
    pub fn spool_document(&self) -> SpooledDocument {
        SpooledDocument::new(Arc::clone(&self.staging_folder))
    }

    /// Creates the folder of a session durably and returns its name.
    ///
    /// An existing folder is never reused: two sources of one account that start in the same
    /// second would overwrite each other's documents.
    ///
    /// # Errors
    /// A storage failure.
    pub fn create_session_folder(
        &self,
        started: Timestamp,
        account: &str,
    ) -> Result<FolderName, Failure> {
        self.staging_folder.mark_has_documents()?;
        for number in 1..=FOLDER_NUMBER_MAX {
            let name = FolderName::for_session(started, account, number);
            let path = self.root.join(name.as_str());
            match self.disk().create_dir(&path) {
                Ok(()) => {
                    self.disk()
                        .sync_dir(&self.root)
                        .map_err(|error| storage_failure("sync", &self.root, &error))?;
                    return Ok(name);
                }
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(storage_failure("create the folder", &path, &error)),
            }
        }
        let first_path = self.root.join(FolderName::for_session(started, account, 1).as_str());
        let error = std::io::Error::other("this name and all its numbered variants exist already");
        Err(storage_failure("create the folder", &first_path, &error))
    }

    /// Root folder of the archive.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    fn disk(&self) -> &dyn Disk {
        self.staging_folder.disk()
    }
}

#[cfg(test)]
mod tests;
