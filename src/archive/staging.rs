//! Staging folder of a source: holds files until they are complete and durable.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cynosure_engine::Failure;

use crate::archive::marker::{ArchiveMarker, ArchiveOwner};
use crate::archive::spool_memory::SpoolUsage;
use crate::disk::{Disk, DiskFile, storage_failure};

/// Staging folder of one source. It is on the filesystem of the archive, so that a rename
/// publishes a file.
#[derive(Debug)]
pub(super) struct StagingFolder {
    marker: ArchiveMarker,
    owner: Mutex<ArchiveOwner>,
    next_number: AtomicU64,
    spool_usage: Arc<SpoolUsage>,
}

/// File in the staging folder. Dropping it removes the file, unless it was persisted or kept.
#[derive(Debug)]
pub(super) struct StagedFile {
    staging: Arc<StagingFolder>,
    path: PathBuf,
    is_released: bool,
}

impl StagingFolder {
    /// Creates the handle of a staging folder that contains only the marker and its lock: other
    /// files could collide with new ones, because names are numbered from 0.
    pub(super) fn new(marker: ArchiveMarker, owner: ArchiveOwner) -> Self {
        Self {
            marker,
            owner: Mutex::new(owner),
            next_number: AtomicU64::new(0),
            spool_usage: Arc::default(),
        }
    }

    pub(super) fn disk(&self) -> &dyn Disk {
        &**self.marker.disk()
    }

    pub(super) fn path(&self) -> &Path {
        self.marker.folder()
    }

    /// Returns the bytes in memory of the documents that are to be stored here.
    pub(super) fn spool_usage(&self) -> &Arc<SpoolUsage> {
        &self.spool_usage
    }

    /// True if documents of this ledger may be in the archive.
    pub(super) fn has_documents(&self) -> bool {
        self.lock_owner().has_documents()
    }

    /// Checks that the archive is still the one that was opened.
    ///
    /// Must be called before each write: an unmounted filesystem leaves an empty folder behind.
    ///
    /// # Errors
    /// A storage failure.
    pub(super) fn verify_owner(&self) -> Result<(), Failure> {
        let owner = self.lock_owner().clone();
        self.marker.verify(&owner)
    }

    /// Records in the marker that documents are stored here, before the first one is.
    ///
    /// # Errors
    /// A storage failure.
    pub(super) fn mark_has_documents(&self) -> Result<(), Failure> {
        self.verify_owner()?;
        let mut owner = self.lock_owner();
        if !owner.has_documents() {
            let updated = owner.clone().with_documents();
            self.marker.write(&updated)?;
            *owner = updated;
        }
        Ok(())
    }

    fn lock_owner(&self) -> MutexGuard<'_, ArchiveOwner> {
        self.owner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Creates a file under a name that was never used before.
    pub(super) fn create_file(
        self: &Arc<Self>,
        kind: &str,
    ) -> Result<(StagedFile, Box<dyn DiskFile>), Failure> {
        let number = self.next_number.fetch_add(1, Ordering::Relaxed);
        let path = self.path().join(format!("{kind}-{number}"));
        let file = self
            .disk()
            .create_file(&path)
            .map_err(|error| storage_failure("create", &path, &error))?;
        Ok((StagedFile { staging: Arc::clone(self), path, is_released: false }, file))
    }
}

impl StagedFile {
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Renames the file to `path`. Not durable by itself.
    pub(super) fn persist(mut self, path: &Path) -> io::Result<()> {
        self.staging.disk().rename(&self.path, path)?;
        self.is_released = true;
        Ok(())
    }

    /// Leaves the file in place and returns its path.
    pub(super) fn keep(mut self) -> PathBuf {
        self.is_released = true;
        self.path.clone()
    }
}

impl Drop for StagedFile {
    fn drop(&mut self) {
        if !self.is_released {
            // A file that can't be removed now is removed by the next start.
            self.staging.disk().remove_file(&self.path).ok();
        }
    }
}
