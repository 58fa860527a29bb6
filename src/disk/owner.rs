//! Owners of the folders that root creates for the user of a service.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{MetadataExt, fchown};
use std::path::Path;

use rustix::fs::{Mode, OFlags};

use crate::disk::{Disk, RealDisk, ensure_folder, parent_folder};

/// Creates a folder and its missing parents durably. Each that root creates gets the owner of the
/// folder that contains it, whose service must be able to write there.
///
/// # Errors
/// An error of the disk, without the path.
pub fn ensure_owned_folder(path: &Path) -> io::Result<()> {
    let is_missing = |folder: &&Path| {
        !folder.as_os_str().is_empty() && matches!(RealDisk.path_kind(folder), Ok(None))
    };
    let missing: Vec<&Path> = path.ancestors().take_while(is_missing).collect();
    ensure_folder(&RealDisk, path)?;
    missing.into_iter().rev().try_for_each(adopt_owner_of_parent)
}

/// Gives a folder to the owner of its parent, if the process runs as root. Other users may not, and
/// own what they create.
fn adopt_owner_of_parent(folder: &Path) -> io::Result<()> {
    if !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    let parent = fs::metadata(parent_folder(folder))?;
    // The owner of the parent may have put a link there meanwhile, which is not followed.
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let opened = File::from(rustix::fs::open(folder, flags, Mode::empty())?);
    if opened.metadata()?.uid() != parent.uid() {
        fchown(&opened, Some(parent.uid()), Some(parent.gid()))?;
        opened.sync_all()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, chown};

    use super::*;

    #[test]
    fn new_folders_belong_to_the_owner_of_the_first_one() {
        let home = tempfile::tempdir().unwrap();
        // Only root may give the folder away; other users own it and what they create in it.
        chown(home.path(), Some(12_345), Some(12_345)).ok();
        let folder = home.path().join("state/work");

        ensure_owned_folder(&folder).unwrap();
        ensure_owned_folder(&folder).unwrap();

        let owner = fs::metadata(home.path()).unwrap().uid();
        for path in [home.path().join("state"), folder] {
            let metadata = fs::metadata(&path).unwrap();
            assert_eq!(metadata.uid(), owner, "{}", path.display());
            assert_eq!(metadata.permissions().mode() & 0o777, 0o700, "{}", path.display());
        }
    }
}
