//! Makes a folder that stays.

use std::io;
use std::path::Path;

use crate::disk::Disk;

/// Makes a folder and the parents it lacks, durably; existing ones are fine.
///
/// # Errors
/// Whatever the disk says, bare. That `path` is a file shows only when it is used.
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
        // Also where it existed: whoever made it may have died before the sync.
        Ok(()) => disk.sync_dir(parent),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => match disk.sync_dir(parent) {
            // A parent that may be passed but not read was not made by us.
            Err(denied) if denied.kind() == io::ErrorKind::PermissionDenied => Ok(()),
            outcome => outcome,
        },
        Err(error) => Err(error),
    }
}

/// The folder that a path is in, as a path that can be opened.
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
