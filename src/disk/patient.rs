//! Tries again what a disk refuses for a moment only.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::io::Errno;

use crate::disk::{Disk, DiskFile, Filesystem, PathKind};
use crate::retry::{RetryError, RetryPolicy};

/// A disk whose calls on names are tried again under a policy, on the thread that calls.
///
/// A sync is never repeated: after one that failed the kernel may call the same bytes clean,
/// and the next would say that they are durable. An append is not either, since nobody knows
/// how much of it was written. A removal is tidying up, often while something is dropped:
/// what is left is removed by the next start.
#[derive(Debug)]
pub struct PatientDisk {
    inner: Arc<dyn Disk>,
    policy: RetryPolicy,
}

impl PatientDisk {
    #[must_use]
    pub fn new(inner: Arc<dyn Disk>, policy: RetryPolicy) -> Self {
        Self { inner, policy }
    }

    fn patiently<T>(&self, call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
        let outcome = self.policy.when(is_momentary).run_blocking(call);
        outcome.map_err(|gave_up: RetryError<io::Error>| {
            gave_up.into_failure(|guard| io::Error::other(format!("the breaker {guard} is open")))
        })
    }
}

/// Whether a call did nothing and may do it in a moment: something else is in its way, or
/// files and memory are used up until others of this machine let go of theirs.
///
/// Not EIO, which the kernel has tried again already; and not a full or read-only disk, which
/// takes a person and is waited for by the session.
fn is_momentary(error: &io::Error) -> bool {
    matches!(
        Errno::from_io_error(error),
        Some(Errno::INTR | Errno::AGAIN | Errno::BUSY | Errno::MFILE | Errno::NFILE | Errno::NOMEM)
    )
}

impl Disk for PatientDisk {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.patiently(|| self.inner.create_dir(path))
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        self.patiently(|| self.inner.create(path))
    }

    fn append_to(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        self.patiently(|| self.inner.append_to(path))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn io::Read + Send>> {
        self.patiently(|| self.inner.open(path))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.patiently(|| self.inner.rename(from, to))
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.inner.sync_dir(path)
    }

    fn filesystem(&self, path: &Path) -> io::Result<Box<dyn Filesystem>> {
        self.patiently(|| self.inner.filesystem(path))
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.inner.remove_file(path)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<PathBuf>> {
        self.patiently(|| self.inner.list(path))
    }

    fn kind(&self, path: &Path) -> io::Result<Option<PathKind>> {
        self.patiently(|| self.inner.kind(path))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures_util::future::BoxFuture;

    use super::*;
    use crate::disk::{Fault, Lasting, MemoryDisk};
    use crate::engine::RandomSample;
    use crate::retry::{BackoffConfig, Timer};

    const PATH: &str = "/file";

    struct NoPauses;

    impl Timer for NoPauses {
        fn random_sample(&self) -> RandomSample {
            RandomSample(0)
        }

        fn sleep(&self, _delay: Duration) -> BoxFuture<'static, ()> {
            Box::pin(std::future::ready(()))
        }

        fn sleep_blocking(&self, _delay: Duration) {}
    }

    fn disks() -> (MemoryDisk, PatientDisk) {
        let memory = MemoryDisk::default();
        let policy = RetryPolicy::new("storage", BackoffConfig::FAST).with_timer(NoPauses);
        (memory.clone(), PatientDisk::new(Arc::new(memory), policy))
    }

    fn fails_once(disk: &MemoryDisk, errno: Errno) {
        disk.fail(Fault { at: disk.operations(), lasting: Lasting::Once, errno });
    }

    #[test]
    fn what_is_in_the_way_for_a_moment_is_waited_for() {
        for errno in [Errno::INTR, Errno::AGAIN, Errno::BUSY, Errno::MFILE, Errno::NFILE] {
            let (memory, disk) = disks();
            fails_once(&memory, errno);
            drop(disk.create(Path::new(PATH)).unwrap());
            fails_once(&memory, errno);
            disk.rename(Path::new(PATH), Path::new("/renamed")).unwrap();
        }
    }

    #[test]
    fn a_full_broken_or_read_only_disk_is_asked_once() {
        for errno in [Errno::NOSPC, Errno::DQUOT, Errno::IO, Errno::ROFS, Errno::ACCESS] {
            let (memory, disk) = disks();
            fails_once(&memory, errno);

            let error = disk.create(Path::new(PATH)).unwrap_err();

            assert_eq!(Errno::from_io_error(&error), Some(errno));
            assert_eq!(memory.operations(), 1, "{errno:?}");
        }
    }

    #[test]
    fn a_failed_sync_is_never_repeated_whatever_it_says() {
        for errno in [Errno::IO, Errno::INTR, Errno::AGAIN] {
            let (memory, disk) = disks();
            let mut file = disk.create(Path::new(PATH)).unwrap();
            file.append(b"mail").unwrap();
            let mut filesystem = disk.filesystem(Path::new("/")).unwrap();
            let before = memory.operations();
            fails_once(&memory, errno);
            file.sync().unwrap_err();
            fails_once(&memory, errno);
            filesystem.sync().unwrap_err();
            fails_once(&memory, errno);
            disk.sync_dir(Path::new("/")).unwrap_err();
            fails_once(&memory, errno);
            file.append(b"more").unwrap_err();

            assert_eq!(memory.operations(), before + 4, "{errno:?}");
        }
    }

    #[test]
    fn what_stays_in_the_way_is_named_after_the_last_attempt() {
        let (memory, disk) = disks();
        memory.fail(Fault { at: 0, lasting: Lasting::FromThenOn, errno: Errno::MFILE });

        let error = disk.create(Path::new(PATH)).unwrap_err();

        assert_eq!(Errno::from_io_error(&error), Some(Errno::MFILE));
        assert_eq!(memory.operations(), 3);
    }
}
