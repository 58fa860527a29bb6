//! Interface of the writers, one for each format.

use std::io;
use std::path::Path;

use cynosure_engine::{Cause, Failure, Timestamp, sanitize_line};

use crate::disk::{Disk, PathKind, parent_folder};
use crate::export::content::VerifiedContent;
use crate::export::failure::write_failure;
use crate::export::folder_names::ExportedFolder;
use crate::export::options::LineEnds;
use crate::export::state::ExportedSource;
use crate::ledger::ExportDocument;

/// Version of a document that is exported.
#[derive(Clone, Copy, Debug)]
pub(super) struct ExportEntry<'a> {
    pub(super) document: &'a ExportDocument,
    /// Number of the version: 1 for the oldest.
    pub(super) version: usize,
    /// True if a newer version is stored.
    pub(super) is_earlier: bool,
    /// Path or line of the version in the session's folder.
    pub(super) file: &'a str,
    pub(super) time: Timestamp,
    pub(super) content: &'a VerifiedContent,
    /// Line ends to write. Those of documents that are no messages are kept.
    pub(super) line_ends: LineEnds,
}

/// Writer of one source in one format.
///
/// Messages are added in groups. What was added since the last commit does not count, and the next
/// process removes it with [`ExportWriter::recover`].
pub(super) trait ExportWriter {
    /// Removes what an interrupted process wrote after its last commit, before anything is added.
    fn recover(&mut self, source: &ExportedSource) -> Result<(), Failure>;

    /// Adds a message to folders. Their positions are those in `source`, which is as it was after
    /// the last commit, and has the new folders too.
    fn add(
        &mut self,
        source: &ExportedSource,
        entry: &ExportEntry<'_>,
        folders: &[(usize, &ExportedFolder)],
    ) -> Result<(), Failure>;

    /// Makes everything that was added durable, and records the lengths of the files. The last row
    /// in `source` is still that of the commit before.
    fn commit(&mut self, source: &mut ExportedSource) -> Result<(), Failure>;

    /// Completes the files durably once everything is committed, also what was recovered. Repeating
    /// it changes nothing.
    fn finish(&mut self, source: &ExportedSource) -> Result<(), Failure>;

    /// Removes the files of this writer in the work folder once the source is complete.
    fn clean_up(&mut self) -> Result<(), Failure>;
}

/// Creates the folders on a path below `root`, which exists. Not durable by itself.
pub(super) fn create_folders(disk: &dyn Disk, root: &Path, path: &Path) -> Result<(), Failure> {
    let mut folder = root.to_owned();
    for level in path.components() {
        folder.push(level);
        match disk.create_dir(&folder) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                check_is_folder(disk, &folder)?;
            }
            Err(error) => return Err(write_failure("create the folder", &folder, &error)),
        }
    }
    Ok(())
}

/// Checks that a folder is not a link, which would lead out of the target folder.
fn check_is_folder(disk: &dyn Disk, path: &Path) -> Result<(), Failure> {
    let kind = disk.path_kind(path).map_err(|error| write_failure("access", path, &error))?;
    match kind {
        Some(PathKind::Folder) => Ok(()),
        Some(PathKind::File { .. } | PathKind::Other) | None => Err(changed_failure(path)),
    }
}

/// Creates the folder of a file whose path is relative to `root`.
pub(super) fn create_parent(disk: &dyn Disk, root: &Path, file: &str) -> Result<(), Failure> {
    match file.contains('/') {
        true => create_folders(disk, root, parent_folder(Path::new(file))),
        false => Ok(()),
    }
}

/// Removes a file that may be absent.
pub(super) fn remove_if_present(disk: &dyn Disk, path: &Path) -> Result<(), Failure> {
    match disk.remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(write_failure("remove", path, &error))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Cuts a file back to the `length` bytes that count. With length 0 it is removed. Not durable by
/// itself: a sync of the file could report the failure that ended the process before.
///
/// # Errors
/// A storage failure; also if the file is shorter than that, because another program changed it.
pub(super) fn cut_back(disk: &dyn Disk, path: &Path, length: u64) -> Result<(), Failure> {
    if length == 0 {
        return remove_if_present(disk, path);
    }
    let kind = disk.path_kind(path).map_err(|error| write_failure("access", path, &error))?;
    match kind {
        Some(PathKind::File { bytes }) if bytes == length => Ok(()),
        Some(PathKind::File { bytes }) if bytes > length => {
            let cut = disk.open_append(path).and_then(|mut file| file.truncate(length));
            cut.map_err(|error| write_failure("cut back", path, &error))
        }
        Some(_) | None => Err(changed_failure(path)),
    }
}

/// Returns the failure of a path in the target folder that another program changed.
fn changed_failure(path: &Path) -> Failure {
    let path = sanitize_line(&path.to_string_lossy());
    let message = format!(
        "{path} was changed or removed since the export began; export into an empty or new folder"
    );
    Failure::new(Cause::Storage, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::{MemoryDisk, RealDisk};

    #[test]
    fn a_file_is_cut_back_to_what_counts() {
        let disk = MemoryDisk::default();
        let path = Path::new("/file");
        disk.create_file(path).unwrap().append(b"onetwo").unwrap();

        assert!(cut_back(&disk, path, 7).unwrap_err().message.contains("was changed or removed"));
        cut_back(&disk, path, 6).unwrap();
        cut_back(&disk, path, 3).unwrap();
        assert_eq!(disk.read_file(path).unwrap(), b"one");
        cut_back(&disk, path, 0).unwrap();
        assert!(disk.files().is_empty());
        cut_back(&disk, path, 0).unwrap();
        assert!(cut_back(&disk, path, 3).is_err());
    }

    #[test]
    fn folders_are_created_up_to_the_last() {
        let disk = MemoryDisk::default();
        create_parent(&disk, Path::new("/"), "file").unwrap();
        create_parent(&disk, Path::new("/"), "a/b/file").unwrap();
        create_folders(&disk, Path::new("/"), Path::new("a/b/c")).unwrap();

        assert!(disk.list_dir(Path::new("/a/b/c")).unwrap().is_empty());
        assert_eq!(disk.list_dir(Path::new("/")).unwrap(), [Path::new("a")]);
    }

    #[test]
    fn a_link_in_the_place_of_a_folder_is_not_followed() {
        let home = tempfile::tempdir().unwrap();
        let elsewhere = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(elsewhere.path(), home.path().join("INBOX")).unwrap();

        let failure = create_folders(&RealDisk, home.path(), Path::new("INBOX/cur")).unwrap_err();

        assert!(failure.message.contains("INBOX was changed or removed"), "{failure}");
        assert!(RealDisk.list_dir(elsewhere.path()).unwrap().is_empty());
    }
}
