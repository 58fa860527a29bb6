//! Durable file operations: the only user of fsync, rename and locks.
//!
//! [`Disk`] is implemented by the real disk and by one in memory, so that tests cover truncated
//! files, full disks and power cuts.

mod atomic;
mod failure;
mod file_owner;
mod folder;
mod lock;
mod locked_file;
mod memory;
mod owner;
mod process;
mod quarantine;
mod real;
mod retrying;
mod shared_use;
mod small_file;
mod usage;
mod versioned_file;

use std::fmt::Debug;
use std::io;
use std::path::{Path, PathBuf};

use cynosure_engine::Timestamp;

pub use self::atomic::{write_durable, write_unsynced};
pub use self::failure::storage_failure;
pub use self::folder::{ensure_folder, parent_folder};
pub use self::lock::{FileLock, LockFileError};
pub use self::locked_file::{Durability, LockedFile, PreviousContent};
pub use self::memory::{DiskFault, FaultDuration, MemoryDisk};
pub use self::owner::ensure_owned_folder;
pub use self::process::process_exists;
pub use self::quarantine::quarantine_file;
pub use self::real::RealDisk;
pub use self::retrying::RetryingDisk;
pub use self::shared_use::SharedUseLock;
pub use self::small_file::read_small_file;
pub use self::usage::{FsUsage, fs_usage};
pub use self::versioned_file::{JsonLayout, QuarantinedFile, VersionedFile};

/// Filesystem operations that the archive and the state file need. Every call blocks.
///
/// Nothing is durable until a sync succeeds. After a failed sync of a file, later syncs prove
/// nothing: it must be written again under another name, or cut back to what was durable before.
/// Errors do not contain the path; the caller adds it.
pub trait Disk: Debug + Send + Sync {
    /// Creates a folder that must not exist yet, accessible by its owner only.
    fn create_dir(&self, path: &Path) -> io::Result<()>;

    /// Creates a file that must not exist yet, readable by its owner only.
    fn create_file(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;

    /// Opens a file for appending, and creates it if it does not exist. A link is refused.
    fn open_append(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;

    /// Opens a plain file for reading. A link is refused.
    fn open_file(&self, path: &Path) -> io::Result<Box<dyn io::Read + Send>>;

    /// Opens a plain file for reading from its byte number `offset` on. A link is refused.
    fn open_file_at(&self, path: &Path, offset: u64) -> io::Result<Box<dyn io::Read + Send>> {
        let mut file = self.open_file(path)?;
        io::copy(&mut io::Read::take(&mut file, offset), &mut io::sink())?;
        Ok(file)
    }

    /// Renames a file and replaces an existing one of the new name. Not durable by itself.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Gives an existing file a second name, which must not exist yet. Not durable by itself.
    ///
    /// Not every filesystem can: the error is then of kind `PermissionDenied`, `Unsupported`,
    /// `TooManyLinks` or `CrossesDevices`.
    fn hard_link(&self, _existing: &Path, _new: &Path) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Makes the entries of a folder durable.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;

    /// Opens the filesystem that `path` is on. Must precede the writes that are to be synced.
    fn open_filesystem(&self, path: &Path) -> io::Result<Box<dyn Filesystem>>;

    /// Removes a file or a link. Not durable by itself.
    fn remove_file(&self, path: &Path) -> io::Result<()>;

    /// Lists the names in a folder, in no particular order.
    fn list_dir(&self, path: &Path) -> io::Result<Vec<PathBuf>>;

    /// Returns the kind of a path without following a link. `None` if nothing is there.
    fn path_kind(&self, path: &Path) -> io::Result<Option<PathKind>>;

    /// Reads a whole plain file, which must be known to be small.
    fn read_file(&self, path: &Path) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.open_file(path)?.read_to_end(&mut bytes)?;
        Ok(bytes)
    }
}

/// Kind of a filesystem entry.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum PathKind {
    File {
        bytes: u64,
    },
    Folder,
    /// A link, a socket or a device. This program creates none.
    Other,
}

/// File open for writing.
pub trait DiskFile: Debug + Send {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// Cuts the file back to its first `length` bytes, if it is longer. Not durable by itself.
    fn truncate(&mut self, length: u64) -> io::Result<()>;

    /// Makes the bytes durable, but not the name.
    fn sync(&mut self) -> io::Result<()>;

    /// Sets the time of the last modification, which later writes change again. Does nothing on a
    /// disk without times.
    fn set_modified(&mut self, _at: Timestamp) -> io::Result<()> {
        Ok(())
    }

    /// Gives the file, if root has created it, to the owner of the file at `path`, which it will
    /// replace, or else to that of the folder. Does nothing on a disk without owners.
    fn adopt_owner(&mut self, _path: &Path) {}
}

/// Handle of an open filesystem.
pub trait Filesystem: Debug + Send {
    /// Makes everything written to the filesystem durable, including names.
    ///
    /// # Errors
    /// Any write to it, by any program, that failed since it was opened.
    fn sync(&mut self) -> io::Result<()>;
}
