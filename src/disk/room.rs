//! What a folder stands on: the kind of filesystem, and how much room is left.

use std::io;
use std::path::Path;

/// Magic numbers of filesystems (statfs(2)), with the names that mount(8) has for them.
const KINDS: [(i64, &str); 12] = [
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
pub struct Room {
    /// Its name, where it is one of the usual.
    pub kind: Option<&'static str>,
    /// Bytes that this user may still write.
    pub free: u64,
    pub total: u64,
    /// Bytes that are written.
    pub used: u64,
    /// How many files it can hold, and how many more; zero where there is no such number.
    pub inodes: u64,
    pub inodes_free: u64,
    /// The same for all folders on it.
    pub id: u64,
}

impl Room {
    /// The share that is used of what this user may use, from 0 to 1, as `df` has it.
    #[must_use]
    pub fn share_used(&self) -> f64 {
        share(self.used, self.used.saturating_add(self.free))
    }

    /// The share of inodes that is used, from 0 to 1; `None` where there is no such number.
    #[must_use]
    pub fn share_of_inodes(&self) -> Option<f64> {
        let used = self.inodes.saturating_sub(self.inodes_free);
        (self.inodes > 0).then(|| share(used, self.inodes))
    }
}

#[expect(clippy::cast_precision_loss, reason = "a share")]
fn share(part: u64, whole: u64) -> f64 {
    part as f64 / whole.max(1) as f64
}

/// Looks at the filesystem that a path is on.
///
/// # Errors
/// When there is nothing at the path.
pub fn room(path: &Path) -> io::Result<Room> {
    let kind = rustix::fs::statfs(path)?.f_type;
    let space = rustix::fs::statvfs(path)?;
    Ok(Room {
        kind: KINDS.iter().find(|(magic, _)| *magic == kind).map(|(_, name)| *name),
        free: space.f_bavail.saturating_mul(space.f_frsize),
        total: space.f_blocks.saturating_mul(space.f_frsize),
        used: space.f_blocks.saturating_sub(space.f_bfree).saturating_mul(space.f_frsize),
        inodes: space.f_files,
        inodes_free: space.f_favail,
        id: space.f_fsid,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_has_no_more_room_than_its_filesystem() {
        let home = tempfile::tempdir().unwrap();

        let found = room(home.path()).unwrap();

        assert!(found.free <= found.total && found.total > 0, "{found:?}");
        assert!((0.0..=1.0).contains(&found.share_used()), "{found:?}");
        assert!(found.share_of_inodes().is_none_or(|share| share <= 1.0), "{found:?}");
    }

    #[test]
    fn where_nothing_is_there_is_no_room() {
        assert_eq!(room(Path::new("/nowhere")).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
