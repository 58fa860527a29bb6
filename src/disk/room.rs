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
    }

    #[test]
    fn where_nothing_is_there_is_no_room() {
        assert_eq!(room(Path::new("/nowhere")).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
