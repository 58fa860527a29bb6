//! A small file that several processes change, one after the other.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{FlockOperation, OFlags};

use crate::disk::{
    Disk, Presence, RealDisk, ensure_folder, folder_of, put_aside, replace, storage_failure,
    write_atomic,
};
use crate::engine::Failure;

/// What of a change must have happened when it is over.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Lasts {
    /// Others see it; a power cut may undo it.
    Process,
    /// It is on disk.
    PowerCut,
}

/// What stood in the file before a change.
#[derive(Debug)]
pub enum Standing<C> {
    Nothing,
    Content(C),
    /// What stood there could not be used.
    PutAside {
        kept_as: PathBuf,
        why: String,
    },
}

/// A file that is read, changed and replaced under a lock. Readers need none: they see
/// the old file or the new one.
#[derive(Debug)]
pub struct SharedFile {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    /// Absent where only one process can be.
    lock: Option<PathBuf>,
    presence: Option<Presence>,
}

impl SharedFile {
    /// A file of the machine; the locks stand beside it and stay.
    #[must_use]
    pub fn new(path: PathBuf) -> Self {
        let lock = path.with_extension("lock");
        Self { disk: Arc::new(RealDisk), path, lock: Some(lock), presence: None }
    }

    /// Lets others who use the file know that we do, until this is dropped.
    ///
    /// # Errors
    /// A storage failure.
    pub fn attend(&mut self) -> Result<(), Failure> {
        if self.lock.is_some() && self.presence.is_none() {
            let folder = folder_of(&self.path);
            ensure_folder(&*self.disk, folder)
                .map_err(|error| storage_failure("make the folder", folder, &error))?;
            self.presence = Some(Presence::join(&self.path.with_extension("users"))?);
        }
        Ok(())
    }

    /// Whether nobody else [attends](Self::attend) to the file at the moment.
    #[must_use]
    pub fn is_ours_alone(&self) -> bool {
        self.lock.is_none() || self.presence.as_ref().is_some_and(Presence::is_alone)
    }

    /// A file of a made-up disk, which no other process sees.
    #[must_use]
    pub fn alone_on(disk: Arc<dyn Disk>, path: PathBuf) -> Self {
        Self { disk, path, lock: None, presence: None }
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

    /// Has `change` make the new content from the old, or none to leave it; nobody else changes
    /// it meanwhile. What `parse` refuses is put aside.
    ///
    /// The wait for the lock is as long as the changes of others take: `change` must be quick.
    ///
    /// # Errors
    /// A storage failure; then the old content stands, or the new one that is not durable.
    pub fn change<C, T>(
        &self,
        lasts: Lasts,
        parse: impl FnOnce(&[u8]) -> Result<C, String>,
        change: impl FnOnce(Standing<C>) -> (Option<Vec<u8>>, T),
    ) -> Result<T, Failure> {
        let _held = self.lock.as_deref().map(hold).transpose()?;
        let standing = match self.read()?.as_deref().map(parse) {
            None => Standing::Nothing,
            Some(Ok(content)) => Standing::Content(content),
            Some(Err(why)) => {
                Standing::PutAside { kept_as: put_aside(&*self.disk, &self.path)?, why }
            }
        };
        let (bytes, told) = change(standing);
        let Some(bytes) = bytes else { return Ok(told) };
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
                        file.change(Lasts::Process, number, |old| (Some(more(&old)), ())).unwrap();
                    }
                });
            }
        });

        let count = SharedFile::new(path).read().unwrap().unwrap();
        assert_eq!(count, b"200");
    }

    fn number(bytes: &[u8]) -> Result<u32, String> {
        String::from_utf8_lossy(bytes).parse().map_err(|_error| "it is no number".to_owned())
    }

    fn more(old: &Standing<u32>) -> Vec<u8> {
        let old = if let Standing::Content(old) = old { *old } else { 0 };
        (old + 1).to_string().into_bytes()
    }

    #[test]
    fn what_cannot_be_read_is_put_aside_and_named() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("count.json");
        fs_err::write(&path, "rot").unwrap();
        let file = SharedFile::new(path.clone());

        let told = file
            .change(Lasts::Process, number, |old| match old {
                Standing::PutAside { kept_as, why } => (Some(b"1".to_vec()), Some((kept_as, why))),
                Standing::Nothing | Standing::Content(_) => (None, None),
            })
            .unwrap();

        let (kept_as, why) = told.unwrap();
        assert_eq!(
            (fs_err::read(kept_as).unwrap(), why.as_str()),
            (b"rot".to_vec(), "it is no number")
        );
        assert_eq!(fs_err::read(path).unwrap(), b"1");
    }

    #[test]
    fn a_link_in_the_place_of_the_lock_is_refused() {
        let home = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/tmp/elsewhere", home.path().join("count.lock")).unwrap();
        let file = SharedFile::new(home.path().join("count.json"));

        let refused = file.change(Lasts::Process, number, |_| (Some(Vec::new()), ())).unwrap_err();

        assert!(refused.to_string().starts_with("cannot lock "), "{refused}");
    }
}
