//! File lock that limits a source to one worker. The kernel releases it when the process ends.

use std::fmt;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use cynosure_engine::Failure;
use rustix::fs::OFlags;

use crate::disk::file_owner::adopt_owner;
use crate::disk::{process_exists, storage_failure};

/// Maximum bytes read from a lock file: more than any process id has digits.
const PID_BYTES_MAX: u64 = 20;

/// Exclusive lock, held until this is dropped or the process ends in any way.
///
/// The file is never removed: otherwise two processes could lock two files of one name.
#[derive(Debug)]
pub struct FileLock {
    _file: File,
}

/// Error of taking a lock.
#[derive(Debug)]
pub enum LockFileError {
    /// Another process holds the lock. `pid` is its id, if it has been written to the file.
    Held {
        path: PathBuf,
        pid: Option<u32>,
    },
    Storage(Failure),
}

impl FileLock {
    /// Takes the lock at `path` without waiting.
    ///
    /// # Errors
    /// [`LockFileError::Held`], or [`LockFileError::Storage`] if the file can't be created or
    /// locked.
    pub fn acquire(path: &Path) -> Result<Self, LockFileError> {
        let to_error = |error| LockFileError::Storage(storage_failure("lock", path, &error));
        let mut file = open_lock_file(path).map_err(to_error)?;

        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(LockFileError::Held { path: path.to_owned(), pid: read_pid(&file) });
            }
            Err(TryLockError::Error(error)) => return Err(to_error(error)),
        }
        write_pid(&mut file).map_err(to_error)?;
        Ok(Self { _file: file })
    }

    /// Returns the id of the process that holds the lock at `path`, if this user can see it.
    #[must_use]
    pub fn holder_pid(path: &Path) -> Option<u32> {
        let flags = OFlags::NOFOLLOW.bits().cast_signed();
        let file = OpenOptions::new().read(true).custom_flags(flags).open(path).ok()?;
        // If the file names a dead process, the lock is not tried: a worker may be starting, and
        // this short shared lock would make its attempt fail.
        let pid = read_pid(&file).filter(|pid| process_exists(*pid))?;
        matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)).then_some(pid)
    }
}

impl fmt::Display for LockFileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Held { path, pid: Some(pid) } => write!(
                f,
                "another worker (process {pid}) runs this source and holds the lock {}; stop it first",
                path.display()
            ),
            Self::Held { path, pid: None } => write!(
                f,
                "another worker runs this source and holds the lock {}; stop it first",
                path.display()
            ),
            Self::Storage(failure) => failure.fmt(f),
        }
    }
}

impl std::error::Error for LockFileError {}

/// Opens a lock file, and creates it if it does not exist. A link in its place is refused. If root
/// creates it, the owner of the folder becomes its owner, who could not open it otherwise.
pub(super) fn open_lock_file(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(OFlags::NOFOLLOW.bits().cast_signed())
        .open(path)?;
    adopt_owner(&file, path);
    Ok(file)
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
    fn a_second_holder_is_refused_with_the_pid_of_the_first() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("lock");
        let _first = FileLock::acquire(&path).unwrap();

        let error = FileLock::acquire(&path).unwrap_err();

        let LockFileError::Held { pid, .. } = error else { panic!("{error}") };
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
        let error = FileLock::acquire(Path::new("/nowhere/lock")).unwrap_err();

        assert!(error.to_string().starts_with("cannot lock /nowhere/lock: "), "{error}");
    }
}
