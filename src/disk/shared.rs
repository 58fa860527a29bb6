//! A small file that several processes change, one after the other.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{FlockOperation, OFlags};

use crate::disk::{Disk, RealDisk, replace, storage_failure, write_atomic};
use crate::engine::Failure;

/// What of a change must have happened when it is over.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Lasts {
    /// Others see it; a power cut may undo it.
    Process,
    /// It is on disk.
    PowerCut,
}

/// A file that is read, changed and replaced under a lock. Readers need none: they see
/// the old file or the new one.
#[derive(Debug)]
pub struct SharedFile {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    /// Absent where only one process can be.
    lock: Option<PathBuf>,
}

impl SharedFile {
    /// A file of the machine; the lock stands beside it and stays.
    #[must_use]
    pub fn new(path: PathBuf) -> Self {
        let lock = path.with_extension("lock");
        Self { disk: Arc::new(RealDisk), path, lock: Some(lock) }
    }

    /// A file of a made-up disk, which no other process sees.
    #[must_use]
    pub fn alone_on(disk: Arc<dyn Disk>, path: PathBuf) -> Self {
        Self { disk, path, lock: None }
    }

    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads the file; `None` where there is none yet.
    ///
    /// # Errors
    /// A storage failure.
    pub fn read(&self) -> Result<Option<Vec<u8>>, Failure> {
        match self.disk.read(&self.path) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(storage_failure("read", &self.path, &error)),
        }
    }

    /// Has `change` make the new content from the old; nobody else changes it meanwhile.
    ///
    /// The wait for the lock is as long as the changes of others take: `change` must be quick.
    ///
    /// # Errors
    /// A storage failure; then the old content stands, or the new one that is not durable.
    pub fn change<T>(
        &self,
        lasts: Lasts,
        change: impl FnOnce(Option<Vec<u8>>) -> (Vec<u8>, T),
    ) -> Result<T, Failure> {
        let _held = self.lock.as_deref().map(hold).transpose()?;
        let (bytes, told) = change(self.read()?);
        let written = match lasts {
            Lasts::Process => replace(&*self.disk, &self.path, &bytes),
            Lasts::PowerCut => write_atomic(&*self.disk, &self.path, &bytes),
        };
        written.map_err(|error| storage_failure("write", &self.path, &error))?;
        Ok(told)
    }
}

/// Waits for the lock, which ends with the file it is on.
fn hold(path: &Path) -> Result<File, Failure> {
    let open = || {
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(OFlags::NOFOLLOW.bits().cast_signed())
            .open(path)?;
        rustix::fs::flock(&file, FlockOperation::LockExclusive)?;
        Ok(file)
    };
    open().map_err(|error: io::Error| storage_failure("lock", path, &error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_of_many_threads_follow_one_another() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("count.json");

        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let file = SharedFile::new(path.clone());
                    for _ in 0..50 {
                        file.change(Lasts::Process, |old| (more(old), ())).unwrap();
                    }
                });
            }
        });

        let count = SharedFile::new(path).read().unwrap().unwrap();
        assert_eq!(count, b"200");
    }

    fn more(old: Option<Vec<u8>>) -> Vec<u8> {
        let old = old.map_or(0, |old| String::from_utf8(old).unwrap().parse::<u32>().unwrap());
        (old + 1).to_string().into_bytes()
    }

    #[test]
    fn a_link_in_the_place_of_the_lock_is_refused() {
        let home = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/tmp/elsewhere", home.path().join("count.lock")).unwrap();
        let file = SharedFile::new(home.path().join("count.json"));

        let refused = file.change(Lasts::Process, |_| (Vec::new(), ())).unwrap_err();

        assert!(refused.to_string().starts_with("cannot lock "), "{refused}");
    }
}
