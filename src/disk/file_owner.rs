//! Owners of the files that root writes for the user of a service.

use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::fs::{MetadataExt, fchown};
use std::path::Path;

use crate::disk::parent_folder;

/// Permission bit that lets all users create files in a folder.
const OTHERS_WRITE_BIT: u32 = 0o002;

const ROOT_UID: u32 = 0;

/// Gives an open file that root has created to the owner of the file at `path`, which it replaces
/// or is, or else to that of the folder. So a command of root takes no file from a service.
///
/// A process that may not give files away, as root in some containers, keeps them.
pub(super) fn adopt_owner(file: &File, path: &Path) {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let (Ok(metadata), Ok(owner)) = (file.metadata(), owner_at(path)) else { return };
    // A link to a file of root elsewhere must not be given away.
    let is_created_file = metadata.is_file() && metadata.uid() == ROOT_UID && metadata.nlink() == 1;
    if is_created_file && owner.uid() != ROOT_UID {
        fchown(file, Some(owner.uid()), Some(owner.gid())).ok();
    }
}

/// Returns the metadata of the file or folder whose owner a file at `path` gets.
fn owner_at(path: &Path) -> io::Result<Metadata> {
    let folder = fs::metadata(parent_folder(path))?;
    // Where everybody may create files, the one at `path` may be anybody's.
    let is_open_to_all = folder.mode() & OTHERS_WRITE_BIT != 0;
    Ok(match fs::symlink_metadata(path) {
        Ok(existing) if existing.is_file() && existing.uid() != ROOT_UID && !is_open_to_all => {
            existing
        }
        Ok(_) | Err(_) => folder,
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, chown};

    use super::*;
    use crate::disk::{Disk as _, FileLock, RealDisk, write_durable, write_unsynced};

    fn uid(path: &Path) -> u32 {
        fs::metadata(path).unwrap().uid()
    }

    #[test]
    fn a_replaced_file_keeps_its_owner_and_a_new_one_gets_that_of_its_folder() {
        let home = tempfile::tempdir().unwrap();
        // Only root may give files away; other users own what they write.
        chown(home.path(), Some(12_345), Some(12_345)).ok();
        let [replaced, new, lock] = ["replaced", "new", "lock"].map(|name| home.path().join(name));
        write_durable(&RealDisk, &replaced, b"one").unwrap();
        chown(&replaced, Some(54_321), Some(54_321)).ok();
        let replaced_uid = uid(&replaced);

        write_durable(&RealDisk, &replaced, b"two").unwrap();
        write_unsynced(&RealDisk, &replaced, b"three").unwrap();
        write_unsynced(&RealDisk, &new, b"one").unwrap();
        drop(FileLock::acquire(&lock).unwrap());

        assert_eq!(uid(&replaced), replaced_uid);
        assert_eq!((uid(&new), uid(&lock)), (uid(home.path()), uid(home.path())));
        assert_eq!(fs::metadata(&replaced).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_file_that_all_could_have_created_decides_nothing() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("file");
        write_durable(&RealDisk, &path, b"one").unwrap();
        let writer = uid(&path);
        chown(&path, Some(54_321), Some(54_321)).ok();
        fs::set_permissions(home.path(), fs::Permissions::from_mode(0o777)).unwrap();

        write_durable(&RealDisk, &path, b"two").unwrap();

        assert_eq!(uid(&path), writer);
    }

    #[test]
    fn a_link_to_another_file_is_not_given_away() {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join("folder");
        RealDisk.create_dir(&folder).unwrap();
        let (other, link) = (home.path().join("other"), folder.join("lock"));
        RealDisk.create_file(&other).unwrap();
        fs::hard_link(&other, &link).unwrap();
        chown(&folder, Some(12_345), Some(12_345)).ok();
        let owner = uid(&other);

        drop(FileLock::acquire(&link).unwrap());

        assert_eq!(uid(&other), owner);
    }
}
