//! Where files are before they are whole and durable.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::disk::{Disk, DiskFile, storage_failure};
use crate::engine::Failure;

/// The staging folder of one source, on the filesystem of the archive, so that a rename suffices.
#[derive(Debug)]
pub(super) struct Staging {
    disk: Arc<dyn Disk>,
    folder: PathBuf,
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
    /// The folder must be there, and empty: names are counted from 0.
    pub(super) fn new(disk: Arc<dyn Disk>, folder: PathBuf) -> Self {
        Self { disk, folder, next: AtomicU64::new(0) }
    }

    pub(super) fn disk(&self) -> &dyn Disk {
        &*self.disk
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Creates a file under a name never used before.
    pub(super) fn create(
        self: &Arc<Self>,
        kind: &str,
    ) -> Result<(Staged, Box<dyn DiskFile>), Failure> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let path = self.folder.join(format!("{kind}-{number}"));
        let file =
            self.disk.create(&path).map_err(|error| storage_failure("create", &path, &error))?;
        Ok((Staged { staging: Arc::clone(self), path, moved: false }, file))
    }
}

impl Staged {
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn move_to(mut self, path: &Path) -> io::Result<()> {
        self.staging.disk.rename(&self.path, path)?;
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
            self.staging.disk.remove_file(&self.path).ok();
        }
    }
}
