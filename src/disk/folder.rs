//! Durable creation of folders.

use std::io;
use std::path::Path;

use crate::disk::Disk;

/// Creates a folder and its missing parents durably. Existing ones are fine.
///
/// # Errors
/// An error of the disk, without the path. A file at `path` is not detected here.
pub fn ensure_folder(disk: &dyn Disk, path: &Path) -> io::Result<()> {
    if path.parent().is_none() {
        return Ok(());
    }
    let parent = parent_folder(path);
    let created = match disk.create_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            ensure_folder(disk, parent)?;
            disk.create_dir(path)
        }
        outcome => outcome,
    };
    match created {
        // An existing folder is synced too: its creator may have died before the sync.
        Ok(()) => disk.sync_dir(parent),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => match disk.sync_dir(parent) {
            // This program did not create a parent that it may traverse but not read.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
            outcome => outcome,
        },
        Err(error) => Err(error),
    }
}

/// Returns the folder that contains a path, as a path that can be opened.
#[must_use]
pub fn parent_folder(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
        None => path,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::{MemoryDisk, PathKind, RealDisk};

    #[test]
    fn a_folder_survives_a_power_cut_with_all_its_parents() {
        let disk = MemoryDisk::default();

        ensure_folder(&disk, Path::new("/a/b/c")).unwrap();
        disk.power_cut(1);

        assert_eq!(disk.path_kind(Path::new("/a/b/c")).unwrap(), Some(PathKind::Folder));
    }

    #[test]
    fn a_folder_left_unsynced_by_a_dead_process_is_made_durable() {
        let disk = MemoryDisk::default();
        disk.create_dir(Path::new("/a")).unwrap();

        ensure_folder(&disk, Path::new("/a")).unwrap();
        disk.power_cut(1);

        assert_eq!(disk.path_kind(Path::new("/a")).unwrap(), Some(PathKind::Folder));
    }

    #[test]
    fn an_existing_real_folder_is_fine() {
        let home = tempfile::tempdir().unwrap();

        ensure_folder(&RealDisk, &home.path().join("x/y")).unwrap();
        ensure_folder(&RealDisk, &home.path().join("x/y")).unwrap();

        assert!(home.path().join("x/y").is_dir());
    }
}
