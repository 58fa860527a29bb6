//! Touches files: the only user of fsync, rename and locks.
//!
//! [`Disk`] is the seam at which a made-up disk takes the place of the real one,
//! so that torn files, full disks and power cuts are ordinary test cases.

use std::io;
use std::path::{Path, PathBuf};

/// What the archive and the state file ask of a filesystem. Every call blocks.
///
/// Nothing is durable until a sync says so, and a sync that failed says nothing
/// about the file ever again: it must be written anew under another name.
pub trait Disk: Send + Sync {
    /// Makes a folder and its parents; an existing one is fine.
    fn create_dir_all(&self, path: &Path) -> io::Result<()>;

    /// Creates a file that must not exist yet, readable by its owner only.
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;

    /// Renames a file over whatever has the new name. Not durable by itself.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Makes the entries of a folder durable.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;

    /// Makes everything written to the filesystem of `path` durable, names included.
    fn sync_filesystem(&self, path: &Path) -> io::Result<()>;

    fn remove_file(&self, path: &Path) -> io::Result<()>;

    fn read(&self, path: &Path) -> io::Result<Vec<u8>>;

    /// The names in a folder, in no order.
    fn list(&self, path: &Path) -> io::Result<Vec<PathBuf>>;

    /// What a path is, not following a link; `None` where nothing is.
    fn kind(&self, path: &Path) -> io::Result<Option<PathKind>>;
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
pub trait DiskFile: Send {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// Makes the bytes durable, not the name.
    fn sync(&mut self) -> io::Result<()>;
}
