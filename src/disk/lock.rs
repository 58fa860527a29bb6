//! One worker per source: a lock that the kernel holds, and lets go with the process.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, OFlags};
use rustix::io::Errno;

use crate::disk::{process_exists, storage_failure};
use crate::engine::Failure;

/// The bytes of a lock file that are read: more than any process number has digits.
const PID_BYTES_MAX: u64 = 20;

/// A lock held until this is dropped or the process ends, however it ends.
///
/// The file stays: removing it would let two processes lock two files of one name.
#[derive(Debug)]
pub struct FileLock {
    _file: File,
}

/// Why a lock was not had.
#[derive(Debug)]
pub enum LockFileError {
    /// Another process works on it; its number where it has been written down.
    Held {
        path: PathBuf,
        pid: Option<u32>,
    },
    Storage(Failure),
}

impl FileLock {
    /// Takes the lock at `path`, or says at once who has it.
    ///
    /// # Errors
    /// [`LockFileError::Held`], or the file can't be made or locked.
    pub fn acquire(path: &Path) -> Result<Self, LockFileError> {
        let storage = |error| LockFileError::Storage(storage_failure("lock", path, &error));
        let mut file = open_lock_file(path).map_err(storage)?;

        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => {
                return Err(LockFileError::Held { path: path.to_owned(), pid: read_pid(&file) });
            }
            Err(error) => return Err(storage(error.into())),
        }
        write_pid(&mut file).map_err(storage)?;
        Ok(Self { _file: file })
    }
}

impl FileLock {
    /// Returns the process that holds the lock at `path`, as far as this user can see it.
    #[must_use]
    pub fn holder_pid(path: &Path) -> Option<u32> {
        let flags = OFlags::NOFOLLOW.bits().cast_signed();
        let file = OpenOptions::new().read(true).custom_flags(flags).open(path).ok()?;
        // The lock of one who begins is not touched: the number in it is still that of a process that ended.
        let pid = read_pid(&file).filter(|pid| process_exists(*pid))?;
        let tried = rustix::fs::flock(&file, FlockOperation::NonBlockingLockShared);
        (tried == Err(Errno::WOULDBLOCK)).then_some(pid)
    }
}

impl fmt::Display for LockFileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Held { path, pid: Some(pid) } => write!(
                f,
                "process {pid} already works on this source and holds {}; stop it first",
                path.display()
            ),
            Self::Held { path, pid: None } => write!(
                f,
                "another process already works on this source and holds {}; stop it first",
                path.display()
            ),
            Self::Storage(failure) => failure.fmt(f),
        }
    }
}

impl std::error::Error for LockFileError {}

/// Opens the file of a lock, made where there is none; a link in its place is refused.
pub(super) fn open_lock_file(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(OFlags::NOFOLLOW.bits().cast_signed())
        .open(path)
}

fn read_pid(file: &File) -> Option<u32> {
    let mut text = String::new();
    file.take(PID_BYTES_MAX).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

fn write_pid(file: &mut File) -> io::Result<()> {
    file.set_len(0)?;
    file.rewind()?;
    writeln!(file, "{}", std::process::id())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_holder_is_refused_with_the_number_of_the_first() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("lock");
        let _first = FileLock::acquire(&path).unwrap();

        let refused = FileLock::acquire(&path).unwrap_err();

        let LockFileError::Held { pid, .. } = refused else { panic!("{refused}") };
        assert_eq!(pid, Some(std::process::id()));
    }

    #[test]
    fn the_lock_of_a_dead_process_is_free() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("lock");
        drop(FileLock::acquire(&path).unwrap());

        let again = FileLock::acquire(&path);

        assert!(again.is_ok());
    }

    #[test]
    fn a_missing_folder_is_reported() {
        let refused = FileLock::acquire(Path::new("/nowhere/lock")).unwrap_err();

        assert!(refused.to_string().starts_with("cannot lock /nowhere/lock: "), "{refused}");
    }
}
