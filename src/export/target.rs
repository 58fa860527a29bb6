//! Target folder of an export: new, empty, or with an export that continues.

use std::path::{Path, PathBuf};

use cynosure_engine::sanitize_line;

use crate::disk::{Disk, PathKind, ensure_folder, storage_failure};
use crate::export::failure::{ExportFailure, write_failure};

/// Folder in the target folder with the state of the export and with unfinished files.
const WORK_FOLDER: &str = ".cynosure-export";

/// File in the work folder that the only process of the export locks.
const LOCK_FILE: &str = "lock";

/// State file, which shows that the target folder belongs to an export.
const STATE_FILE: &str = "state.json";

/// Folder that some filesystems have at their root.
const LOST_AND_FOUND: &str = "lost+found";

/// Path of the work folder of an export into `dir`.
#[must_use]
pub(super) fn work_folder(dir: &Path) -> PathBuf {
    dir.join(WORK_FOLDER)
}

/// Path of the state file of an export into `dir`.
#[must_use]
pub(super) fn state_file(dir: &Path) -> PathBuf {
    work_folder(dir).join(STATE_FILE)
}

/// Path of the file that the only process of an export into `dir` locks.
#[must_use]
pub fn target_lock_file(dir: &Path) -> PathBuf {
    work_folder(dir).join(LOCK_FILE)
}

/// Creates the folder `dir` and its work folder durably. Changes nothing in a folder with other
/// files, unless an export into it has begun.
///
/// # Errors
/// The folder has other files, or is a file; a storage failure.
pub fn prepare_target(disk: &dyn Disk, dir: &Path) -> Result<(), ExportFailure> {
    let kind = disk.path_kind(dir).map_err(|error| storage_failure("access", dir, &error))?;
    let shown = sanitize_line(&dir.to_string_lossy());
    match kind {
        Some(PathKind::Folder) if has_foreign_files(disk, dir)? => {
            return Err(ExportFailure::Refused(format!(
                "{shown} is not empty, and no export into it has begun; choose an empty or new \
                 folder"
            )));
        }
        Some(PathKind::Folder) | None => {}
        Some(PathKind::File { .. } | PathKind::Other) => {
            return Err(ExportFailure::Refused(format!(
                "{shown} is not a folder; choose an empty or new folder"
            )));
        }
    }
    let work = work_folder(dir);
    ensure_folder(disk, &work)
        .map_err(|error| write_failure("create the folder", &work, &error))?;
    let kind = disk.path_kind(&work).map_err(|error| storage_failure("access", &work, &error))?;
    if kind == Some(PathKind::Folder) {
        return Ok(());
    }
    // It would be written into the place that a link leads to.
    let shown = sanitize_line(&work.to_string_lossy());
    Err(ExportFailure::Refused(format!("{shown} is not a folder; choose an empty or new folder")))
}

/// True if the folder has files, and none is the state of an export.
fn has_foreign_files(disk: &dyn Disk, dir: &Path) -> Result<bool, ExportFailure> {
    let state = state_file(dir);
    let kind = disk.path_kind(&state).map_err(|error| storage_failure("access", &state, &error))?;
    if kind.is_some() {
        return Ok(false);
    }
    let names = disk.list_dir(dir).map_err(|error| storage_failure("list", dir, &error))?;
    // The work folder without a state is that of a process that died at once.
    let own = [Path::new(WORK_FOLDER), Path::new(LOST_AND_FOUND)];
    Ok(names.iter().any(|name| !own.contains(&name.as_path())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::MemoryDisk;

    #[test]
    fn new_and_empty_folders_are_accepted() {
        for dir in ["/new/deep", "/empty"] {
            let disk = MemoryDisk::default();
            disk.create_dir(Path::new("/empty")).unwrap();
            disk.create_dir(Path::new("/empty/lost+found")).unwrap();

            prepare_target(&disk, Path::new(dir)).unwrap();
            prepare_target(&disk, Path::new(dir)).unwrap();

            let work = work_folder(Path::new(dir));
            assert_eq!(disk.path_kind(&work).unwrap(), Some(PathKind::Folder));
        }
    }

    #[test]
    fn a_folder_with_other_files_is_left_alone() {
        let disk = MemoryDisk::default();
        disk.create_dir(Path::new("/mail")).unwrap();
        disk.create_file(Path::new("/mail/mine")).unwrap();

        for (dir, reason) in [("/mail", "is not empty"), ("/mail/mine", "is not a folder")] {
            let error = prepare_target(&disk, Path::new(dir)).unwrap_err().to_string();
            assert!(error.contains(reason) && error.contains("choose an empty"), "{error}");
        }
        assert_eq!(disk.list_dir(Path::new("/mail")).unwrap(), [Path::new("mine")]);
    }

    #[test]
    fn a_work_folder_that_is_none_is_refused() {
        let disk = MemoryDisk::default();
        disk.create_dir(Path::new("/out")).unwrap();
        disk.create_file(&work_folder(Path::new("/out"))).unwrap();

        let error = prepare_target(&disk, Path::new("/out")).unwrap_err().to_string();

        assert!(error.contains("/out/.cynosure-export is not a folder; choose"), "{error}");
    }

    #[test]
    fn a_folder_with_an_export_is_accepted() {
        let disk = MemoryDisk::default();
        prepare_target(&disk, Path::new("/out")).unwrap();
        disk.create_file(Path::new("/out/mail.zip")).unwrap();
        assert!(prepare_target(&disk, Path::new("/out")).is_err());

        disk.create_file(Path::new("/out/.cynosure-export/state.json")).unwrap();

        prepare_target(&disk, Path::new("/out")).unwrap();
    }
}
