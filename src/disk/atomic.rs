//! Atomic replacement of a small file: readers always see the old file or the new one.

use std::ffi::OsString;
use std::io;
use std::path::Path;

use crate::disk::{Disk, DiskFile, parent_folder};

/// Writes `bytes` to `path` durably: temporary file, fsync, rename, fsync of the folder.
///
/// Only one process may write at a time; the lock of the source ensures that. If root writes, the
/// file keeps its owner; a new one gets that of its folder.
///
/// # Errors
/// An error of the disk, without the path. Unless the last step failed, the old file is intact.
pub fn write_durable(disk: &dyn Disk, path: &Path, bytes: &[u8]) -> io::Result<()> {
    write_and_rename(disk, path, bytes, |file| file.sync())?;
    disk.sync_dir(parent_folder(path))
}

/// Writes `bytes` to `path` atomically but not durably: a power cut may undo it.
///
/// # Errors
/// An error of the disk, without the path. The old file is intact.
pub fn write_unsynced(disk: &dyn Disk, path: &Path, bytes: &[u8]) -> io::Result<()> {
    write_and_rename(disk, path, bytes, |_| Ok(()))
}

fn write_and_rename(
    disk: &dyn Disk,
    path: &Path,
    bytes: &[u8],
    finish: impl FnOnce(&mut dyn DiskFile) -> io::Result<()>,
) -> io::Result<()> {
    let Some(name) = path.file_name() else {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not the path of a file"));
    };
    let folder = parent_folder(path);
    let mut temporary_name = OsString::from(".");
    temporary_name.push(name);
    temporary_name.push(".tmp");
    let temporary = folder.join(temporary_name);

    // A dead process may have left it, or its fsync failed: such a file is never written again.
    match disk.remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let write = || {
        let mut file = disk.create_file(&temporary)?;
        // Before its name is known to others, so that its owner can read it at any time.
        file.adopt_owner(path);
        file.append(bytes)?;
        finish(&mut *file)
    };
    let result = write().and_then(|()| disk.rename(&temporary, path));
    if result.is_err() {
        // The next write removes a leftover, so the first error is the one to return.
        disk.remove_file(&temporary).ok();
    }
    result
}

#[cfg(test)]
mod tests {
    use rustix::io::Errno;

    use super::*;
    use crate::disk::{DiskFault, FaultDuration, MemoryDisk, RealDisk};

    const PATH: &str = "/state.json";

    /// Number of calls of one write: remove, create, append, sync, rename, sync of the folder.
    const OPERATIONS: u64 = 6;

    #[test]
    fn a_power_cut_at_any_operation_leaves_the_old_file_or_the_new_one() {
        for at in 0..=OPERATIONS {
            for seed in 0..8 {
                let disk = MemoryDisk::default();
                write_durable(&disk, Path::new(PATH), b"old").unwrap();
                disk.set_fault(DiskFault::stop_at(disk.operation_count() + at));

                let outcome = write_durable(&disk, Path::new(PATH), b"new");
                disk.power_cut(seed);

                let read = disk.read_file(Path::new(PATH)).unwrap();
                assert!(read == b"old" || read == b"new", "operation {at}: {read:?}");
                assert!(outcome.is_err() || read == b"new", "operation {at}: said to be durable");
                write_durable(&disk, Path::new(PATH), b"next").unwrap();
            }
        }
    }

    #[test]
    fn a_full_disk_leaves_the_old_file_and_no_temporary_one() {
        for at in 1..OPERATIONS - 1 {
            let disk = MemoryDisk::default();
            write_durable(&disk, Path::new(PATH), b"old").unwrap();
            let at = disk.operation_count() + at;
            disk.set_fault(DiskFault {
                at_operation: at,
                duration: FaultDuration::Once,
                errno: Errno::NOSPC,
            });

            let error = write_durable(&disk, Path::new(PATH), b"new").unwrap_err();

            assert_eq!(error.kind(), io::ErrorKind::StorageFull);
            assert_eq!(
                disk.files().into_iter().collect::<Vec<_>>(),
                [(PATH.into(), b"old".into())]
            );
        }
    }

    #[test]
    fn a_real_file_is_replaced() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("file");

        write_durable(&RealDisk, &path, b"one").unwrap();
        write_durable(&RealDisk, &path, b"two").unwrap();

        assert_eq!(RealDisk.read_file(&path).unwrap(), b"two");
        assert_eq!(RealDisk.list_dir(home.path()).unwrap().len(), 1);
    }
}
