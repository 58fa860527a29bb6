//! Filesystem of a folder: its type and its free space.

use std::io;
use std::path::Path;

/// Magic numbers of filesystems (statfs(2)) and their names (mount(8)).
const FILESYSTEM_TYPES: [(i64, &str); 12] = [
    (0xEF53, "ext4"),
    (0x5846_5342, "xfs"),
    (0x9123_683E, "btrfs"),
    (0x2FC1_2FC1, "zfs"),
    (0xF2F5_2010, "f2fs"),
    (0x794C_7630, "overlay"),
    (0x0102_1994, "tmpfs"),
    (0x8584_58F6, "ramfs"),
    (0x6969, "nfs"),
    (0xFF53_4D42, "cifs"),
    (0xFE53_4D42, "smb2"),
    (0x6573_5546, "fuse"),
];

/// Type and usage of the filesystem of a folder.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct FsUsage {
    /// Name of its type. `None` if it is not a common one.
    pub fs_type: Option<&'static str>,
    /// Bytes that this user can still write.
    pub free_bytes: u64,
    pub total_bytes: u64,
    /// Bytes in use.
    pub used_bytes: u64,
    /// Total and free inodes. Zero if the filesystem has no fixed number.
    pub inodes_total: u64,
    pub inodes_free: u64,
    /// Filesystem id. It is the same for all folders on one filesystem.
    pub filesystem_id: u64,
}

impl FsUsage {
    /// Returns the used share of the space available to this user, from 0 to 1, as in `df`.
    #[must_use]
    pub fn used_share(&self) -> f64 {
        ratio(self.used_bytes, self.used_bytes.saturating_add(self.free_bytes))
    }

    /// Returns the used share of inodes, from 0 to 1. `None` if there is no fixed number of inodes.
    #[must_use]
    pub fn used_inode_share(&self) -> Option<f64> {
        let used = self.inodes_total.saturating_sub(self.inodes_free);
        (self.inodes_total > 0).then(|| ratio(used, self.inodes_total))
    }
}

#[expect(clippy::cast_precision_loss, reason = "a share")]
fn ratio(part: u64, whole: u64) -> f64 {
    part as f64 / whole.max(1) as f64
}

/// Reads the usage of the filesystem that a path is on.
///
/// # Errors
/// The path does not exist, or its filesystem can't be queried.
pub fn fs_usage(path: &Path) -> io::Result<FsUsage> {
    let fs_type = rustix::fs::statfs(path)?.f_type;
    let space = rustix::fs::statvfs(path)?;
    Ok(FsUsage {
        fs_type: FILESYSTEM_TYPES
            .iter()
            .find(|(magic, _)| *magic == fs_type)
            .map(|(_, name)| *name),
        free_bytes: space.f_bavail.saturating_mul(space.f_frsize),
        total_bytes: space.f_blocks.saturating_mul(space.f_frsize),
        used_bytes: space.f_blocks.saturating_sub(space.f_bfree).saturating_mul(space.f_frsize),
        inodes_total: space.f_files,
        inodes_free: space.f_favail,
        filesystem_id: space.f_fsid,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn free_space_is_at_most_the_total() {
        let home = tempfile::tempdir().unwrap();

        let usage = fs_usage(home.path()).unwrap();

        assert!(usage.free_bytes <= usage.total_bytes && usage.total_bytes > 0, "{usage:?}");
        assert!((0.0..=1.0).contains(&usage.used_share()), "{usage:?}");
        assert!(usage.used_inode_share().is_none_or(|share| share <= 1.0), "{usage:?}");
    }

    #[test]
    fn usage_of_a_missing_path_is_an_error() {
        assert_eq!(fs_usage(Path::new("/nowhere")).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
