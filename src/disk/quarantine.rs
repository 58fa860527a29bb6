//! Quarantine of files that can't be used: they are renamed, never deleted.

use std::io;
use std::path::{Path, PathBuf};

use cynosure_engine::Failure;

use crate::disk::{Disk, parent_folder, storage_failure};

/// Maximum number of quarantined files of one name. An operator must remove some after that.
const QUARANTINED_FILES_MAX: u32 = 1000;

/// Renames the file to `<name>.unreadable-<n>`, with the first number that is free.
///
/// # Errors
/// A storage failure; also if a thousand files of this name are quarantined already.
pub fn quarantine_file(disk: &dyn Disk, path: &Path) -> Result<PathBuf, Failure> {
    let to_failure = |error| storage_failure("quarantine", path, &error);
    for number in 1..=QUARANTINED_FILES_MAX {
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".unreadable-{number}"));
        let quarantine_path = PathBuf::from(name);
        if disk.path_kind(&quarantine_path).map_err(to_failure)?.is_none() {
            disk.rename(path, &quarantine_path)
                .and_then(|()| disk.sync_dir(parent_folder(path)))
                .map_err(to_failure)?;
            return Ok(quarantine_path);
        }
    }
    Err(to_failure(io::Error::other(
        "1000 quarantined files with this name exist; examine and remove some of them",
    )))
}
