//! What a folder stands on: the kind of filesystem, and how much room is left.

use std::io;
use std::path::Path;

/// Magic numbers of filesystems (statfs(2)), with the names that mount(8) has for them.
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

/// The filesystem under a folder.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct FsUsage {
    /// Its name, where it is one of the usual.
    pub fs_type: Option<&'static str>,
    /// Bytes that this user may still write.
    pub free_bytes: u64,
    pub total_bytes: u64,
    /// Bytes that are written.
    pub used_bytes: u64,
    /// How many files it can hold, and how many more; zero where there is no such number.
    pub inodes_total: u64,
    pub inodes_free: u64,
    /// The same for all folders on it.
    pub filesystem_id: u64,
}

impl FsUsage {
    /// The share that is used of what this user may use, from 0 to 1, as `df` has it.
    #[must_use]
    pub fn used_share(&self) -> f64 {
        ratio(self.used_bytes, self.used_bytes.saturating_add(self.free_bytes))
    }

    /// The share of inodes that is used, from 0 to 1; `None` where there is no such number.
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

/// Looks at the filesystem that a path is on.
///
/// # Errors
/// When there is nothing at the path.
pub fn fs_usage(path: &Path) -> io::Result<FsUsage> {
    let kind = rustix::fs::statfs(path)?.f_type;
    let space = rustix::fs::statvfs(path)?;
    Ok(FsUsage {
        fs_type: FILESYSTEM_TYPES.iter().find(|(magic, _)| *magic == kind).map(|(_, name)| *name),
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

        let found = fs_usage(home.path()).unwrap();

        assert!(found.free_bytes <= found.total_bytes && found.total_bytes > 0, "{found:?}");
        assert!((0.0..=1.0).contains(&found.used_share()), "{found:?}");
        assert!(found.used_inode_share().is_none_or(|share| share <= 1.0), "{found:?}");
    }

    #[test]
    fn usage_of_a_missing_path_is_an_error() {
        assert_eq!(fs_usage(Path::new("/nowhere")).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
