//! A small file that several processes change, one after the other.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::fs::FlockOperation;
use rustix::io::Errno;

use crate::disk::lock::open_lock_file;
use crate::disk::{
    Disk, PathKind, RealDisk, SharedUseLock, ensure_folder, parent_folder, quarantine_file,
    storage_failure, write_durable, write_unsynced,
};
use crate::engine::Failure;
use crate::retry::{BackoffConfig, Jitter, RetryError, RetryPolicy};

/// The largest file that is read, in bytes: what a thousand entries with long stories need.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// How often, and for about two seconds in all, a lock is asked for that another process has. A
/// change takes milliseconds, on a slow disk perhaps a second; who takes longer is stopped or stuck,
/// and whoever waited for it would be, too.
const LOCK_RETRY: BackoffConfig = BackoffConfig {
    max_attempts: 200,
    base_delay: Duration::from_millis(1),
    max_delay: Duration::from_millis(10),
    multiplier: 2.0,
    backoff_factor: 1.0,
    jitter: Jitter::Proportional(0.3),
};

/// What of a change must have happened when it is over.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Durability {
    /// Others see it; a power cut may undo it.
    Visible,
    /// It is on disk.
    Durable,
}

/// What stood in the file before a change.
#[derive(Debug)]
pub enum PreviousContent<C> {
    Absent,
    Valid(C),
    /// What stood there could not be used.
    Quarantined {
        quarantine_path: PathBuf,
        reason: String,
    },
}

/// A file that is read, changed and replaced under a lock. Readers need none: they see
/// the old file or the new one.
#[derive(Debug)]
pub struct LockedFile {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    /// Absent where only one process can be.
    lock_path: Option<PathBuf>,
    shared_use: Option<SharedUseLock>,
    /// Somebody has held the lock for so long that it is only tried.
    is_lock_stuck: AtomicBool,
}

impl LockedFile {
    /// A file of the machine; the locks stand beside it and stay.
    #[must_use]
    pub fn new(path: PathBuf) -> Self {
        Self::with_disk(Arc::new(RealDisk), path)
    }

    /// The same, of a disk that stands between us and the machine.
    #[must_use]
    pub fn with_disk(disk: Arc<dyn Disk>, path: PathBuf) -> Self {
        let lock = Some(path.with_extension("lock"));
        Self { disk, path, lock_path: lock, shared_use: None, is_lock_stuck: AtomicBool::default() }
    }

    /// Lets others who use the file know that we do, until this is dropped.
    ///
    /// # Errors
    /// A storage failure.
    pub fn register_use(&mut self) -> Result<(), Failure> {
        if self.lock_path.is_some() && self.shared_use.is_none() {
            self.ensure_parent_folder()?;
            self.shared_use = Some(SharedUseLock::acquire(&self.path.with_extension("users"))?);
        }
        Ok(())
    }

    /// True if nothing else has [registered](Self::register_use) a use of the file.
    #[must_use]
    pub fn is_sole_user(&self) -> bool {
        self.lock_path.is_none()
            || self.shared_use.as_ref().is_some_and(SharedUseLock::is_sole_holder)
    }

    /// A file of a made-up disk, which no other process sees.
    #[must_use]
    pub fn without_lock(disk: Arc<dyn Disk>, path: PathBuf) -> Self {
        Self { disk, path, lock_path: None, shared_use: None, is_lock_stuck: AtomicBool::default() }
    }

    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads the file and changes nothing: `None` where there is none yet, `Some(Err(why))`
    /// where what stands there cannot be used.
    ///
    /// # Errors
    /// A storage failure.
    pub fn read<C>(
        &self,
        parse: impl FnOnce(&[u8]) -> Result<C, String>,
    ) -> Result<Option<Result<C, String>>, Failure> {
        let failed = |error| storage_failure("read", &self.path, &error);
        Ok(match self.disk.path_kind(&self.path).map_err(failed)? {
            None => None,
            Some(PathKind::File { bytes }) if bytes <= FILE_BYTES_MAX => {
                match self.disk.read_file(&self.path) {
                    Ok(bytes) => Some(parse(&bytes)),
                    // Put aside since it was looked at.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => None,
                    Err(error) => return Err(failed(error)),
                }
            }
            Some(PathKind::File { bytes }) => {
                Some(Err(format!("it has {bytes} bytes, far too many")))
            }
            Some(PathKind::Folder | PathKind::Other) => {
                Some(Err("it is not a plain file".to_owned()))
            }
        })
    }

    /// Has `change` make the new content from the old, or none to leave it; nobody else changes
    /// it meanwhile. What `parse` refuses is put aside.
    ///
    /// The wait for the lock is as long as the changes of others take: `change` must be quick. It
    /// blocks for two seconds at most, and not even that again while the same process holds it.
    ///
    /// # Errors
    /// A storage failure; then the old content stands, or the new one that is not durable.
    pub fn update<C, T>(
        &self,
        lasts: Durability,
        parse: impl FnOnce(&[u8]) -> Result<C, String>,
        change: impl FnOnce(PreviousContent<C>) -> (Option<Vec<u8>>, T),
    ) -> Result<T, Failure> {
        self.ensure_parent_folder()?;
        let _held = self.lock_path.as_deref().map(|lock| self.acquire_lock(lock)).transpose()?;
        let standing = match self.read(parse)? {
            None => PreviousContent::Absent,
            Some(Ok(content)) => PreviousContent::Valid(content),
            Some(Err(why)) => PreviousContent::Quarantined {
                quarantine_path: quarantine_file(&*self.disk, &self.path)?,
                reason: why,
            },
        };
        let (bytes, told) = change(standing);
        let Some(bytes) = bytes else { return Ok(told) };
        let written = match lasts {
            Durability::Visible => write_unsynced(&*self.disk, &self.path, &bytes),
            Durability::Durable => write_durable(&*self.disk, &self.path, &bytes),
        };
        written.map_err(|error| storage_failure("write", &self.path, &error))?;
        Ok(told)
    }
}

impl LockedFile {
    fn ensure_parent_folder(&self) -> Result<(), Failure> {
        let folder = parent_folder(&self.path);
        let failed = |error| storage_failure("make the folder", folder, &error);
        match self.disk.path_kind(folder).map_err(failed)? {
            Some(_) => Ok(()),
            None => ensure_folder(&*self.disk, folder).map_err(failed),
        }
    }

    /// Waits for the lock, which ends with the file it is on.
    fn acquire_lock(&self, path: &Path) -> Result<File, Failure> {
        let failed = |error: io::Error| storage_failure("lock", path, &error);
        let file = open_lock_file(path).map_err(failed)?;
        let mut had = try_lock(&file);
        if had == Err(Errno::WOULDBLOCK) && !self.is_lock_stuck.load(Ordering::Relaxed) {
            let patience = RetryPolicy::new("lock", LOCK_RETRY);
            let waited = patience.when(|error| *error == Errno::WOULDBLOCK);
            had = waited.run_blocking(|| try_lock(&file)).map_err(|gave_up: RetryError<Errno>| {
                // It has no breaker that could refuse.
                gave_up.into_failure(|_guard| Errno::WOULDBLOCK)
            });
        }
        self.is_lock_stuck.store(had == Err(Errno::WOULDBLOCK), Ordering::Relaxed);
        had.map(|()| file).map_err(|error| failed(error.into()))
    }
}

fn try_lock(file: &File) -> Result<(), Errno> {
    rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn updates_of_many_threads_are_serialized() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("count.json");

        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let file = LockedFile::new(path.clone());
                    for _ in 0..50 {
                        file.update(Durability::Visible, parse_number, |old| {
                            (Some(increment(&old)), ())
                        })
                        .unwrap();
                    }
                });
            }
        });

        assert_eq!(LockedFile::new(path).read(parse_number).unwrap(), Some(Ok(200)));
    }

    fn parse_number(bytes: &[u8]) -> Result<u32, String> {
        String::from_utf8_lossy(bytes).parse().map_err(|_error| "it is no number".to_owned())
    }

    fn increment(old: &PreviousContent<u32>) -> Vec<u8> {
        let old = if let PreviousContent::Valid(old) = old { *old } else { 0 };
        (old + 1).to_string().into_bytes()
    }

    #[test]
    fn a_stuck_lock_is_waited_for_once_and_then_only_tried() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("count.json");
        let file = LockedFile::new(path.clone());
        let change =
            || file.update(Durability::Visible, parse_number, |old| (Some(increment(&old)), ()));
        let holder = open_lock_file(&path.with_extension("lock")).unwrap();
        rustix::fs::flock(&holder, FlockOperation::LockExclusive).unwrap();

        let refused = change().unwrap_err().to_string();
        assert!(refused.contains("another process holds it and does not let go"), "{refused}");
        assert!(file.is_lock_stuck.load(Ordering::Relaxed));
        change().unwrap_err();

        drop(holder);
        change().unwrap();
        assert!(!file.is_lock_stuck.load(Ordering::Relaxed));
    }

    #[test]
    fn an_unreadable_file_is_quarantined_and_reported() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("count.json");
        fs_err::write(&path, "rot").unwrap();
        let file = LockedFile::new(path.clone());

        let told = file
            .update(Durability::Visible, parse_number, |old| match old {
                PreviousContent::Quarantined { quarantine_path: kept_as, reason: why } => {
                    (Some(b"1".to_vec()), Some((kept_as, why)))
                }
                PreviousContent::Absent | PreviousContent::Valid(_) => (None, None),
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
    fn a_symlinked_lock_file_is_refused() {
        let home = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/tmp/elsewhere", home.path().join("count.lock")).unwrap();
        let file = LockedFile::new(home.path().join("count.json"));

        let refused =
            file.update(Durability::Visible, parse_number, |_| (Some(Vec::new()), ())).unwrap_err();

        assert!(refused.to_string().starts_with("cannot lock "), "{refused}");
    }
}
