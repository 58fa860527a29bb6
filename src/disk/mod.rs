//! Touches files: the only user of fsync, rename and locks.
//!
//! [`Disk`] is the seam at which a made-up disk takes the place of the real one,
//! so that torn files, full disks and power cuts are ordinary test cases.

mod alive;
mod aside;
mod atomic;
mod failure;
mod folder;
mod lock;
mod memory;
mod patient;
mod presence;
mod real;
mod room;
mod shared;

use std::fmt::Debug;
use std::io;
use std::path::{Path, PathBuf};

pub use self::alive::is_alive;
pub use self::aside::put_aside;
pub use self::atomic::{replace, write_atomic};
pub use self::failure::storage_failure;
pub use self::folder::{ensure_folder, folder_of};
pub use self::lock::{Lock, LockError};
pub use self::memory::{Fault, Lasting, MemoryDisk};
pub use self::patient::PatientDisk;
pub use self::presence::Presence;
pub use self::real::RealDisk;
pub use self::room::{Room, room};
pub use self::shared::{Lasts, SharedFile, Standing};

/// What the archive and the state file ask of a filesystem. Every call blocks.
///
/// Nothing is durable until a sync says so, and a sync that failed says nothing
/// about the file ever again: it must be written anew under another name.
/// Errors come bare; whoever asked knows the path and names it.
pub trait Disk: Debug + Send + Sync {
    /// Makes a folder that must not exist yet, for its owner only.
    fn create_dir(&self, path: &Path) -> io::Result<()>;

    /// Creates a file that must not exist yet, readable by its owner only.
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;

    /// Opens a file for appending, made where there is none. A link is refused.
    fn append_to(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;

    /// Opens a plain file for reading. A link is refused, not followed.
    fn open(&self, path: &Path) -> io::Result<Box<dyn io::Read + Send>>;

    /// Renames a file over whatever has the new name. Not durable by itself.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Makes the entries of a folder durable.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;

    /// Takes hold of the filesystem that `path` is on, before writing what is to be synced.
    fn filesystem(&self, path: &Path) -> io::Result<Box<dyn Filesystem>>;

    /// Removes a file or a link. Not durable by itself.
    fn remove_file(&self, path: &Path) -> io::Result<()>;

    /// The names in a folder, in no order.
    fn list(&self, path: &Path) -> io::Result<Vec<PathBuf>>;

    /// What a path is, not following a link; `None` where nothing is.
    fn kind(&self, path: &Path) -> io::Result<Option<PathKind>>;

    /// Reads a whole plain file; for those that are known to be small.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.open(path)?.read_to_end(&mut bytes)?;
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
