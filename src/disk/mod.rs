//! Touches files: the only user of fsync, rename and locks.
//!
//! [`Disk`] is the seam at which a made-up disk takes the place of the real one,
//! so that torn files, full disks and power cuts are ordinary test cases.

mod atomic;
mod failure;
mod folder;
mod lock;
mod locked_file;
mod memory;
mod process;
mod quarantine;
mod real;
mod retrying;
mod shared_use;
mod usage;

use std::fmt::Debug;
use std::io;
use std::path::{Path, PathBuf};

pub use self::atomic::{write_durable, write_unsynced};
pub use self::failure::storage_failure;
pub use self::folder::{ensure_folder, parent_folder};
pub use self::lock::{FileLock, LockFileError};
pub use self::locked_file::{Durability, LockedFile, PreviousContent};
pub use self::memory::{DiskFault, FaultDuration, MemoryDisk};
pub use self::process::process_exists;
pub use self::quarantine::quarantine_file;
pub use self::real::RealDisk;
pub use self::retrying::RetryingDisk;
pub use self::shared_use::SharedUseLock;
pub use self::usage::{FsUsage, fs_usage};

/// What the archive and the state file ask of a filesystem. Every call blocks.
///
/// Nothing is durable until a sync says so, and a sync that failed says nothing
/// about the file ever again: it must be written anew under another name.
/// Errors come bare; whoever asked knows the path and names it.
pub trait Disk: Debug + Send + Sync {
    /// Makes a folder that must not exist yet, for its owner only.
    fn create_dir(&self, path: &Path) -> io::Result<()>;

    /// Creates a file that must not exist yet, readable by its owner only.
    fn create_file(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;

    /// Opens a file for appending, made where there is none. A link is refused.
    fn open_append(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;

    /// Opens a plain file for reading. A link is refused, not followed.
    fn open_file(&self, path: &Path) -> io::Result<Box<dyn io::Read + Send>>;

    /// Renames a file over whatever has the new name. Not durable by itself.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Makes the entries of a folder durable.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;

    /// Takes hold of the filesystem that `path` is on, before writing what is to be synced.
    fn open_filesystem(&self, path: &Path) -> io::Result<Box<dyn Filesystem>>;

    /// Removes a file or a link. Not durable by itself.
    fn remove_file(&self, path: &Path) -> io::Result<()>;

    /// The names in a folder, in no order.
    fn list_dir(&self, path: &Path) -> io::Result<Vec<PathBuf>>;

    /// What a path is, not following a link; `None` where nothing is.
    fn path_kind(&self, path: &Path) -> io::Result<Option<PathKind>>;

    /// Reads a whole plain file; for those that are known to be small.
    fn read_file(&self, path: &Path) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.open_file(path)?.read_to_end(&mut bytes)?;
        Ok(bytes)
    }
}

/// What stands at a path.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum PathKind {
    File {
        bytes: u64,
    },
    Folder,
    /// A link, a socket, a device: nothing of ours.
    Other,
}

/// A file being written.
pub trait DiskFile: Debug + Send {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// Makes the bytes durable, not the name.
    fn sync(&mut self) -> io::Result<()>;
}

/// A hold on a whole filesystem.
pub trait Filesystem: Debug + Send {
    /// Makes everything written to it durable, names included.
    ///
    /// # Errors
    /// Any write to it that failed since it was taken hold of, whoever wrote.
    fn sync(&mut self) -> io::Result<()>;
}
