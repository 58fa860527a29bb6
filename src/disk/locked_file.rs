//! Small file that several processes change under a lock, one after the other.

use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use cynosure_engine::Failure;

use crate::disk::lock::open_lock_file;
use crate::disk::{
    Disk, RealDisk, SharedUseLock, ensure_folder, ensure_owned_folder, parent_folder,
    quarantine_file, read_small_file, storage_failure, write_durable, write_unsynced,
};
use crate::retry::{BackoffConfig, Jitter, RetryError, RetryPolicy};

/// Maximum size of a file that is read, in bytes: enough for a thousand entries with long texts.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Retry schedule for a lock held by another process: up to 200 attempts in about two seconds.
///
/// A change takes milliseconds, on a slow disk perhaps a second. A process that takes longer is
/// stopped or stuck, and waiting for it would block this process, too.
const LOCK_RETRY: BackoffConfig = BackoffConfig {
    max_attempts: 200,
    base_delay: Duration::from_millis(1),
    max_delay: Duration::from_millis(10),
    multiplier: 2.0,
    backoff_factor: 1.0,
    jitter: Jitter::Proportional(0.3),
};

/// Durability of a change when the update returns.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Durability {
    /// Other processes see it. A power cut may undo it.
    Visible,
    /// It is on disk.
    Durable,
}

/// Content of the file before a change.
#[derive(Debug)]
pub enum PreviousContent<C> {
    Absent,
    Valid(C),
    /// The content could not be used, and the file was renamed to `quarantine_path`.
    Quarantined {
        quarantine_path: PathBuf,
        reason: String,
    },
}

/// File that is read, changed and replaced under a lock.
///
/// Readers need no lock: they see the old file or the new one.
#[derive(Debug)]
pub struct LockedFile {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    /// `None` if only one process can use the file.
    lock_path: Option<PathBuf>,
    shared_use: Option<SharedUseLock>,
    /// True after a wait for the lock timed out. Until it is free again, it is only tried once.
    is_lock_stuck: AtomicBool,
}

impl LockedFile {
    /// Creates a handle of a file on the real disk. The lock files beside it are never removed.
    #[must_use]
    pub fn new(path: PathBuf) -> Self {
        Self::with_disk(Arc::new(RealDisk), path)
    }

    /// Creates a handle of a file on `disk`, a wrapper of the real disk.
    #[must_use]
    pub fn with_disk(disk: Arc<dyn Disk>, path: PathBuf) -> Self {
        let lock_path = Some(path.with_extension("lock"));
        Self { disk, path, lock_path, shared_use: None, is_lock_stuck: AtomicBool::default() }
    }

    /// Registers this process as a user of the file until this is dropped.
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

    /// Creates a handle without a lock, for a disk in memory that no other process sees.
    #[must_use]
    pub fn without_lock(disk: Arc<dyn Disk>, path: PathBuf) -> Self {
        Self { disk, path, lock_path: None, shared_use: None, is_lock_stuck: AtomicBool::default() }
    }

    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads the file without changing it. `None` if it does not exist, `Some(Err(reason))` if its
    /// content can't be used.
    ///
    /// # Errors
    /// A storage failure.
    pub fn read<C>(
        &self,
        parse: impl FnOnce(&[u8]) -> Result<C, String>,
    ) -> Result<Option<Result<C, String>>, Failure> {
        let content = read_small_file(&*self.disk, &self.path, FILE_BYTES_MAX)
            .map_err(|error| storage_failure("read", &self.path, &error))?;
        Ok(content.map(|bytes| parse(&bytes?)))
    }

    /// Replaces the content by what `change` returns, or keeps it if that is `None`.
    ///
    /// The lock excludes other changes meanwhile. A file that `parse` rejects is quarantined.
    /// Other processes wait as long as `change` takes, so it must be quick. The wait for the lock
    /// blocks for two seconds at most, and does not block again while it stays held.
    ///
    /// # Errors
    /// A storage failure; then the file has the old content, or the new one but not durably.
    pub fn update<C, T>(
        &self,
        durability: Durability,
        parse: impl FnOnce(&[u8]) -> Result<C, String>,
        change: impl FnOnce(PreviousContent<C>) -> (Option<Vec<u8>>, T),
    ) -> Result<T, Failure> {
        self.ensure_parent_folder()?;
        let _lock = self.lock_path.as_deref().map(|path| self.acquire_lock(path)).transpose()?;
        let previous = match self.read(parse)? {
            None => PreviousContent::Absent,
            Some(Ok(content)) => PreviousContent::Valid(content),
            Some(Err(reason)) => PreviousContent::Quarantined {
                quarantine_path: quarantine_file(&*self.disk, &self.path)?,
                reason,
            },
        };
        let (bytes, result) = change(previous);
        let Some(bytes) = bytes else { return Ok(result) };
        let outcome = match durability {
            Durability::Visible => write_unsynced(&*self.disk, &self.path, &bytes),
            Durability::Durable => write_durable(&*self.disk, &self.path, &bytes),
        };
        outcome.map_err(|error| storage_failure("write", &self.path, &error))?;
        Ok(result)
    }

    fn ensure_parent_folder(&self) -> Result<(), Failure> {
        let folder = parent_folder(&self.path);
        let to_failure = |error| storage_failure("create the folder", folder, &error);
        match self.disk.path_kind(folder).map_err(to_failure)? {
            Some(_) => Ok(()),
            // A file with a lock is on the real disk.
            None if self.lock_path.is_some() => ensure_owned_folder(folder).map_err(to_failure),
            None => ensure_folder(&*self.disk, folder).map_err(to_failure),
        }
    }

    /// Waits for the lock. It is released when the returned file is dropped.
    fn acquire_lock(&self, path: &Path) -> Result<File, Failure> {
        let to_failure = |error: io::Error| storage_failure("lock", path, &error);
        let file = open_lock_file(path).map_err(to_failure)?;
        let is_held = |error: &TryLockError| matches!(error, TryLockError::WouldBlock);
        let mut result = file.try_lock();
        if result.as_ref().is_err_and(is_held) && !self.is_lock_stuck.load(Ordering::Relaxed) {
            let policy = RetryPolicy::new("lock", LOCK_RETRY);
            let retry = policy.when(is_held);
            result = retry.run_blocking(|| file.try_lock()).map_err(|error: RetryError<_>| {
                // This policy has no circuit breaker that could reject the call.
                error.into_failure(|_breaker| TryLockError::WouldBlock)
            });
        }
        self.is_lock_stuck.store(result.as_ref().is_err_and(is_held), Ordering::Relaxed);
        result.map(|()| file).map_err(|error| to_failure(error.into()))
    }
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
        String::from_utf8_lossy(bytes).parse().map_err(|_error| "it is not a number".to_owned())
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
        holder.lock().unwrap();

        let error = change().unwrap_err().to_string();
        assert!(error.contains("another process holds the lock"), "{error}");
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

        let quarantined = file
            .update(Durability::Visible, parse_number, |old| match old {
                PreviousContent::Quarantined { quarantine_path, reason } => {
                    (Some(b"1".to_vec()), Some((quarantine_path, reason)))
                }
                PreviousContent::Absent | PreviousContent::Valid(_) => (None, None),
            })
            .unwrap();

        let (quarantine_path, reason) = quarantined.unwrap();
        assert_eq!(
            (fs_err::read(quarantine_path).unwrap(), reason.as_str()),
            (b"rot".to_vec(), "it is not a number")
        );
        assert_eq!(fs_err::read(path).unwrap(), b"1");
    }

    #[test]
    fn a_symlinked_lock_file_is_refused() {
        let home = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/tmp/elsewhere", home.path().join("count.lock")).unwrap();
        let file = LockedFile::new(home.path().join("count.json"));

        let error =
            file.update(Durability::Visible, parse_number, |_| (Some(Vec::new()), ())).unwrap_err();

        assert!(error.to_string().starts_with("cannot lock "), "{error}");
    }
}
