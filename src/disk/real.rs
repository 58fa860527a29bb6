//! Implementation of [`Disk`] on the real filesystem.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use cynosure_engine::Timestamp;
use rustix::fs::{Mode, OFlags};

use crate::disk::file_owner::adopt_owner;
use crate::disk::{Disk, DiskFile, Filesystem, PathKind};

/// Permissions for the owner only, because the files hold mail.
const FILE_MODE: u32 = 0o600;
const FOLDER_MODE: u32 = 0o700;

/// Filesystem of this machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealDisk;

impl Disk for RealDisk {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        fs::DirBuilder::new().mode(FOLDER_MODE).create(path)
    }

    fn create_file(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        // O_EXCL does not follow a link at the path either.
        let file = OpenOptions::new().write(true).create_new(true).mode(FILE_MODE).open(path)?;
        Ok(Box::new(RealFile(file)))
    }

    fn open_append(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let file = OpenOptions::new()
            .append(true)
            .create(true)
            .mode(FILE_MODE)
            .custom_flags((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed())
            .open(path)?;
        Ok(Box::new(RealFile(file)))
    }

    fn open_file(&self, path: &Path) -> io::Result<Box<dyn io::Read + Send>> {
        Ok(Box::new(open_plain_file(path)?))
    }

    fn open_file_at(&self, path: &Path, offset: u64) -> io::Result<Box<dyn io::Read + Send>> {
        let mut file = open_plain_file(path)?;
        file.seek(SeekFrom::Start(offset))?;
        Ok(Box::new(file))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        Ok(rustix::fs::rename(from, to)?)
    }

    fn hard_link(&self, existing: &Path, new: &Path) -> io::Result<()> {
        fs::hard_link(existing, new)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        open_dir(path)?.sync_all()
    }

    fn open_filesystem(&self, path: &Path) -> io::Result<Box<dyn Filesystem>> {
        Ok(Box::new(RealFilesystem(open_dir(path)?)))
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn list_dir(&self, path: &Path) -> io::Result<Vec<PathBuf>> {
        fs::read_dir(path)?.map(|entry| Ok(PathBuf::from(entry?.file_name()))).collect()
    }

    fn path_kind(&self, path: &Path) -> io::Result<Option<PathKind>> {
        match fs::symlink_metadata(path) {
            Ok(found) if found.is_file() => Ok(Some(PathKind::File { bytes: found.len() })),
            Ok(found) if found.is_dir() => Ok(Some(PathKind::Folder)),
            Ok(_) => Ok(Some(PathKind::Other)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}

#[derive(Debug)]
struct RealFile(File);

impl DiskFile for RealFile {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all(bytes)
    }

    fn truncate(&mut self, length: u64) -> io::Result<()> {
        if self.0.metadata()?.len() > length { self.0.set_len(length) } else { Ok(()) }
    }

    fn sync(&mut self) -> io::Result<()> {
        self.0.sync_all()
    }

    fn set_modified(&mut self, at: Timestamp) -> io::Result<()> {
        let distance = Duration::from_millis(at.0.unsigned_abs());
        let time = if at.0 < 0 {
            SystemTime::UNIX_EPOCH.checked_sub(distance)
        } else {
            SystemTime::UNIX_EPOCH.checked_add(distance)
        };
        // A time that the system cannot represent is no reason to fail.
        time.map_or(Ok(()), |time| self.0.set_modified(time))
    }

    fn adopt_owner(&mut self, path: &Path) {
        adopt_owner(&self.0, path);
    }
}

/// Open folder of a filesystem. The kernel reports to each descriptor the write errors of its
/// filesystem since it was opened (Linux 5.8), so it must be opened before the writes.
#[derive(Debug)]
struct RealFilesystem(File);

impl Filesystem for RealFilesystem {
    fn sync(&mut self) -> io::Result<()> {
        Ok(rustix::io::retry_on_intr(|| rustix::fs::syncfs(&self.0))?)
    }
}

fn open_plain_file(path: &Path) -> io::Result<File> {
    // Without O_NONBLOCK, opening a named pipe in place of the file would block forever.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::open(path, flags, Mode::empty())?);
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a plain file"));
    }
    Ok(file)
}

fn open_dir(path: &Path) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(File::from(rustix::io::retry_on_intr(|| rustix::fs::open(path, flags, Mode::empty()))?))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn files_and_folders_are_for_their_owner_only() {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join("folder");
        let file = folder.join("file");

        RealDisk.create_dir(&folder).unwrap();
        RealDisk.create_file(&file).unwrap().append(b"mail").unwrap();

        let mode = |path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&folder), mode(&file)), (0o700, 0o600));
        assert_eq!(RealDisk.path_kind(&file).unwrap(), Some(PathKind::File { bytes: 4 }));
        assert_eq!(RealDisk.list_dir(&folder).unwrap(), [PathBuf::from("file")]);
    }

    #[test]
    fn a_link_is_neither_written_through_nor_read_through() {
        let home = tempfile::tempdir().unwrap();
        let (target, link) = (home.path().join("target"), home.path().join("link"));
        RealDisk.create_file(&target).unwrap();
        symlink(&target, &link).unwrap();

        assert_eq!(RealDisk.path_kind(&link).unwrap(), Some(PathKind::Other));
        assert_eq!(RealDisk.create_file(&link).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert!(RealDisk.open_file(&link).is_err());
    }

    #[test]
    fn a_file_is_cut_back_and_read_from_an_offset() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("file");
        let mut file = RealDisk.open_append(&path).unwrap();
        file.append(b"onetwothree").unwrap();

        file.truncate(6).unwrap();
        file.truncate(100).unwrap();
        file.append(b"four").unwrap();

        let mut rest = Vec::new();
        RealDisk.open_file_at(&path, 3).unwrap().read_to_end(&mut rest).unwrap();
        assert_eq!(rest, b"twofour");
        assert_eq!(RealDisk.open_file_at(&path, 100).unwrap().read(&mut rest).unwrap(), 0);
    }

    #[test]
    fn a_file_has_a_second_name_and_the_time_that_was_set() {
        let home = tempfile::tempdir().unwrap();
        let (first, second) = (home.path().join("first"), home.path().join("second"));
        let at = Timestamp(1_000_000_000_000);
        let mut file = RealDisk.create_file(&first).unwrap();
        file.append(b"mail").unwrap();
        file.set_modified(at).unwrap();

        RealDisk.hard_link(&first, &second).unwrap();

        assert_eq!(RealDisk.read_file(&second).unwrap(), b"mail");
        let modified = fs::metadata(&second).unwrap().modified().unwrap();
        let since_epoch = modified.duration_since(SystemTime::UNIX_EPOCH).unwrap();
        assert_eq!(since_epoch, Duration::from_secs(1_000_000_000));
        let again = RealDisk.hard_link(&first, &second).unwrap_err();
        assert_eq!(again.kind(), io::ErrorKind::AlreadyExists);
    }

    #[test]
    fn only_plain_files_are_read() {
        let home = tempfile::tempdir().unwrap();

        assert_eq!(
            RealDisk.read_file(home.path()).unwrap_err().kind(),
            io::ErrorKind::InvalidInput,
            "a folder"
        );
    }
}
