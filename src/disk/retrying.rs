//! Disk wrapper that retries transient errors.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::io::Errno;

use crate::disk::{Disk, DiskFile, Filesystem, PathKind};
use crate::retry::{RetryError, RetryPolicy};

/// Disk that retries calls on names under a policy, on the calling thread.
///
/// A sync is never retried: after a failed one the kernel may mark the same bytes as clean, and
/// the next sync would report them as durable. An append is not retried, because it is unknown
/// how many bytes were written. A removal is not retried, because it is only cleanup, often in a
/// `drop`: the next start removes what is left.
#[derive(Debug)]
pub struct RetryingDisk {
    inner: Arc<dyn Disk>,
    policy: RetryPolicy,
}

impl RetryingDisk {
    #[must_use]
    pub fn new(inner: Arc<dyn Disk>, policy: RetryPolicy) -> Self {
        Self { inner, policy }
    }

    fn with_retry<T>(&self, call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
        let result = self.policy.when(is_transient).run_blocking(call);
        result.map_err(|error: RetryError<io::Error>| {
            error.into_failure(|breaker| {
                io::Error::other(format!("the circuit breaker {breaker} is open"))
            })
        })
    }
}

/// True if a call had no effect and may succeed soon: it was interrupted, the target is busy, or
/// files or memory are used up until other processes release theirs.
///
/// Not EIO, which the kernel has already retried. Not a full or read-only disk, which only an
/// operator can resolve; the session waits for that.
fn is_transient(error: &io::Error) -> bool {
    matches!(
        Errno::from_io_error(error),
        Some(Errno::INTR | Errno::AGAIN | Errno::BUSY | Errno::MFILE | Errno::NFILE | Errno::NOMEM)
    )
}

impl Disk for RetryingDisk {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.with_retry(|| self.inner.create_dir(path))
    }

    fn create_file(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        self.with_retry(|| self.inner.create_file(path))
    }

    fn open_append(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        self.with_retry(|| self.inner.open_append(path))
    }

    fn open_file(&self, path: &Path) -> io::Result<Box<dyn io::Read + Send>> {
        self.with_retry(|| self.inner.open_file(path))
    }

    fn open_file_at(&self, path: &Path, offset: u64) -> io::Result<Box<dyn io::Read + Send>> {
        self.with_retry(|| self.inner.open_file_at(path, offset))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.with_retry(|| self.inner.rename(from, to))
    }

    fn hard_link(&self, existing: &Path, new: &Path) -> io::Result<()> {
        self.with_retry(|| self.inner.hard_link(existing, new))
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.inner.sync_dir(path)
    }

    fn open_filesystem(&self, path: &Path) -> io::Result<Box<dyn Filesystem>> {
        self.with_retry(|| self.inner.open_filesystem(path))
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.inner.remove_file(path)
    }

    fn list_dir(&self, path: &Path) -> io::Result<Vec<PathBuf>> {
        self.with_retry(|| self.inner.list_dir(path))
    }

    fn path_kind(&self, path: &Path) -> io::Result<Option<PathKind>> {
        self.with_retry(|| self.inner.path_kind(path))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures_util::future::BoxFuture;

    use super::*;
    use crate::disk::{DiskFault, FaultDuration, MemoryDisk};
    use crate::retry::{BackoffConfig, Timer};
    use cynosure_engine::RandomSample;

    const PATH: &str = "/file";

    struct NoDelayTimer;

    impl Timer for NoDelayTimer {
        fn random_sample(&self) -> RandomSample {
            RandomSample(0)
        }

        fn sleep(&self, _delay: Duration) -> BoxFuture<'static, ()> {
            Box::pin(std::future::ready(()))
        }

        fn sleep_blocking(&self, _delay: Duration) {}
    }

    fn retrying_disk() -> (MemoryDisk, RetryingDisk) {
        let memory = MemoryDisk::default();
        let policy = RetryPolicy::new("storage", BackoffConfig::FAST).with_timer(NoDelayTimer);
        (memory.clone(), RetryingDisk::new(Arc::new(memory), policy))
    }

    fn fail_once(disk: &MemoryDisk, errno: Errno) {
        disk.set_fault(DiskFault {
            at_operation: disk.operation_count(),
            duration: FaultDuration::Once,
            errno,
        });
    }

    #[test]
    fn transient_errors_are_retried() {
        for errno in [Errno::INTR, Errno::AGAIN, Errno::BUSY, Errno::MFILE, Errno::NFILE] {
            let (memory, disk) = retrying_disk();
            fail_once(&memory, errno);
            drop(disk.create_file(Path::new(PATH)).unwrap());
            fail_once(&memory, errno);
            disk.rename(Path::new(PATH), Path::new("/renamed")).unwrap();
        }
    }

    #[test]
    fn permanent_errors_are_not_retried() {
        for errno in [Errno::NOSPC, Errno::DQUOT, Errno::IO, Errno::ROFS, Errno::ACCESS] {
            let (memory, disk) = retrying_disk();
            fail_once(&memory, errno);

            let error = disk.create_file(Path::new(PATH)).unwrap_err();

            assert_eq!(Errno::from_io_error(&error), Some(errno));
            assert_eq!(memory.operation_count(), 1, "{errno:?}");
        }
    }

    #[test]
    fn a_failed_sync_is_never_retried() {
        for errno in [Errno::IO, Errno::INTR, Errno::AGAIN] {
            let (memory, disk) = retrying_disk();
            let mut file = disk.create_file(Path::new(PATH)).unwrap();
            file.append(b"mail").unwrap();
            let mut filesystem = disk.open_filesystem(Path::new("/")).unwrap();
            let before = memory.operation_count();
            fail_once(&memory, errno);
            file.sync().unwrap_err();
            fail_once(&memory, errno);
            filesystem.sync().unwrap_err();
            fail_once(&memory, errno);
            disk.sync_dir(Path::new("/")).unwrap_err();
            fail_once(&memory, errno);
            file.append(b"more").unwrap_err();

            assert_eq!(memory.operation_count(), before + 4, "{errno:?}");
        }
    }

    #[test]
    fn the_last_error_is_returned_after_the_last_attempt() {
        let (memory, disk) = retrying_disk();
        memory.set_fault(DiskFault {
            at_operation: 0,
            duration: FaultDuration::Permanent,
            errno: Errno::MFILE,
        });

        let error = disk.create_file(Path::new(PATH)).unwrap_err();

        assert_eq!(Errno::from_io_error(&error), Some(Errno::MFILE));
        assert_eq!(memory.operation_count(), 3);
    }
}
