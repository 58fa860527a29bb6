//! A small file that several processes change, one after the other.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::fs::FlockOperation;
use rustix::io::Errno;

use crate::disk::lock::open_lock;
use crate::disk::{
    Disk, PathKind, Presence, RealDisk, ensure_folder, folder_of, put_aside, replace,
    storage_failure, write_atomic,
};
use crate::engine::Failure;
use crate::retry::{BackoffConfig, Jitter, RetryError, RetryPolicy};

/// The largest file that is read, in bytes: what a thousand entries with long stories need.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// How often, and for about two seconds in all, a lock is asked for that another process has. A
/// change takes milliseconds, on a slow disk perhaps a second; who takes longer is stopped or stuck,
/// and whoever waited for it would be, too.
const PATIENCE: BackoffConfig = BackoffConfig {
    max_attempts: 200,
    base_delay: Duration::from_millis(1),
    max_delay: Duration::from_millis(10),
    multiplier: 2.0,
    backoff_factor: 1.0,
    jitter: Jitter::Proportional(0.3),
};

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
    /// Somebody has held the lock for so long that it is only tried.
    is_stuck: AtomicBool,
}

impl SharedFile {
    /// A file of the machine; the locks stand beside it and stay.
    #[must_use]
    pub fn new(path: PathBuf) -> Self {
        Self::on(Arc::new(RealDisk), path)
    }

    /// The same, of a disk that stands between us and the machine.
    #[must_use]
    pub fn on(disk: Arc<dyn Disk>, path: PathBuf) -> Self {
        let lock = Some(path.with_extension("lock"));
        Self { disk, path, lock, presence: None, is_stuck: AtomicBool::default() }
    }

    /// Lets others who use the file know that we do, until this is dropped.
    ///
    /// # Errors
    /// A storage failure.
    pub fn attend(&mut self) -> Result<(), Failure> {
        if self.lock.is_some() && self.presence.is_none() {
            self.make_folder()?;
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
        Self { disk, path, lock: None, presence: None, is_stuck: AtomicBool::default() }
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
    pub fn look<C>(
        &self,
        parse: impl FnOnce(&[u8]) -> Result<C, String>,
    ) -> Result<Option<Result<C, String>>, Failure> {
        let failed = |error| storage_failure("read", &self.path, &error);
        Ok(match self.disk.kind(&self.path).map_err(failed)? {
            None => None,
            Some(PathKind::File { bytes }) if bytes <= FILE_BYTES_MAX => {
                match self.disk.read(&self.path) {
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
    pub fn change<C, T>(
        &self,
        lasts: Lasts,
        parse: impl FnOnce(&[u8]) -> Result<C, String>,
        change: impl FnOnce(Standing<C>) -> (Option<Vec<u8>>, T),
    ) -> Result<T, Failure> {
        self.make_folder()?;
        let _held = self.lock.as_deref().map(|lock| self.hold(lock)).transpose()?;
        let standing = match self.look(parse)? {
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

impl SharedFile {
    fn make_folder(&self) -> Result<(), Failure> {
        let folder = folder_of(&self.path);
        let failed = |error| storage_failure("make the folder", folder, &error);
        match self.disk.kind(folder).map_err(failed)? {
            Some(_) => Ok(()),
            None => ensure_folder(&*self.disk, folder).map_err(failed),
        }
    }

    /// Waits for the lock, which ends with the file it is on.
    fn hold(&self, path: &Path) -> Result<File, Failure> {
        let failed = |error: io::Error| storage_failure("lock", path, &error);
        let file = open_lock(path).map_err(failed)?;
        let mut had = lock(&file);
        if had == Err(Errno::WOULDBLOCK) && !self.is_stuck.load(Ordering::Relaxed) {
            let patience = RetryPolicy::new("lock", PATIENCE);
            let waited = patience.when(|error| *error == Errno::WOULDBLOCK);
            had = waited.run_blocking(|| lock(&file)).map_err(|gave_up: RetryError<Errno>| {
                // It has no breaker that could refuse.
                gave_up.into_failure(|_guard| Errno::WOULDBLOCK)
            });
        }
        self.is_stuck.store(had == Err(Errno::WOULDBLOCK), Ordering::Relaxed);
        had.map(|()| file).map_err(|error| failed(error.into()))
    }
}

fn lock(file: &File) -> Result<(), Errno> {
    rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive)
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

        assert_eq!(SharedFile::new(path).look(number).unwrap(), Some(Ok(200)));
    }

    fn number(bytes: &[u8]) -> Result<u32, String> {
        String::from_utf8_lossy(bytes).parse().map_err(|_error| "it is no number".to_owned())
    }

    fn more(old: &Standing<u32>) -> Vec<u8> {
        let old = if let Standing::Content(old) = old { *old } else { 0 };
        (old + 1).to_string().into_bytes()
    }

    #[test]
    fn a_holder_that_does_not_let_go_is_waited_for_once_and_then_only_tried() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("count.json");
        let file = SharedFile::new(path.clone());
        let change = || file.change(Lasts::Process, number, |old| (Some(more(&old)), ()));
        let holder = open_lock(&path.with_extension("lock")).unwrap();
        rustix::fs::flock(&holder, FlockOperation::LockExclusive).unwrap();

        let refused = change().unwrap_err().to_string();
        assert!(refused.contains("another process holds it and does not let go"), "{refused}");
        assert!(file.is_stuck.load(Ordering::Relaxed));
        change().unwrap_err();

        drop(holder);
        change().unwrap();
        assert!(!file.is_stuck.load(Ordering::Relaxed));
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
