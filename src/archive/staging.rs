//! Where files are before they are whole and durable.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::archive::marker::{Marker, Owner};
use crate::disk::{Disk, DiskFile, storage_failure};
use crate::engine::Failure;

/// The staging folder of one source, on the filesystem of the archive, so that a rename suffices.
#[derive(Debug)]
pub(super) struct Staging {
    marker: Marker,
    owner: Mutex<Owner>,
    next: AtomicU64,
}

/// A file in the staging folder; removed when dropped, unless it was moved away.
#[derive(Debug)]
pub(super) struct Staged {
    staging: Arc<Staging>,
    path: PathBuf,
    moved: bool,
}

impl Staging {
    /// Nothing but the marker and its lock may be in the folder: names are counted from 0.
    pub(super) fn new(marker: Marker, owner: Owner) -> Self {
        Self { marker, owner: Mutex::new(owner), next: AtomicU64::new(0) }
    }

    pub(super) fn disk(&self) -> &dyn Disk {
        &**self.marker.disk()
    }

    pub(super) fn folder(&self) -> &Path {
        self.marker.folder()
    }

    /// Whether documents of this ledger may be in the archive.
    pub(super) fn holds_documents(&self) -> bool {
        self.owner().holds_documents()
    }

    /// Checks that the archive is still the one that was opened. To be called before anything is
    /// written: below a filesystem that was unmounted lies an empty folder.
    ///
    /// # Errors
    /// A storage failure.
    pub(super) fn verify(&self) -> Result<(), Failure> {
        let owner = self.owner().clone();
        self.marker.verify(&owner)
    }

    /// Has the marker say that documents are stored here, before the first one is.
    ///
    /// # Errors
    /// A storage failure.
    pub(super) fn expect_documents(&self) -> Result<(), Failure> {
        self.verify()?;
        let mut owner = self.owner();
        if !owner.holds_documents() {
            let full = owner.clone().with_documents();
            self.marker.write(&full)?;
            *owner = full;
        }
        Ok(())
    }

    fn owner(&self) -> MutexGuard<'_, Owner> {
        self.owner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Creates a file under a name never used before.
    pub(super) fn create(
        self: &Arc<Self>,
        kind: &str,
    ) -> Result<(Staged, Box<dyn DiskFile>), Failure> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let path = self.folder().join(format!("{kind}-{number}"));
        let file =
            self.disk().create(&path).map_err(|error| storage_failure("create", &path, &error))?;
        Ok((Staged { staging: Arc::clone(self), path, moved: false }, file))
    }
}

impl Staged {
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn move_to(mut self, path: &Path) -> io::Result<()> {
        self.staging.disk().rename(&self.path, path)?;
        self.moved = true;
        Ok(())
    }

    /// Leaves the file where it is, whatever happens to this.
    pub(super) fn leave(mut self) -> PathBuf {
        self.moved = true;
        self.path.clone()
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        if !self.moved {
            // What cannot be removed now is removed by the next start.
            self.staging.disk().remove_file(&self.path).ok();
        }
    }
}
