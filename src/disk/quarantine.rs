//! Quarantine of files that can't be used: they are renamed, never deleted.

use std::io;
use std::path::{Path, PathBuf};

use crate::disk::{Disk, parent_folder, storage_failure};
use crate::engine::Failure;

/// Maximum number of quarantined files of one name. A person must remove some after that.
const QUARANTINED_FILES_MAX: u32 = 1000;

/// Renames the file to `<name>.unreadable-<n>`, with the first number that is free.
///
/// # Errors
/// A storage failure; also if a thousand files of this name are quarantined already.
pub fn quarantine_file(disk: &dyn Disk, path: &Path) -> Result<PathBuf, Failure> {
    let failed = |error| storage_failure("put aside", path, &error);
    for number in 1..=QUARANTINED_FILES_MAX {
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".unreadable-{number}"));
        let kept_as = PathBuf::from(name);
        if disk.path_kind(&kept_as).map_err(failed)?.is_none() {
            disk.rename(path, &kept_as)
                .and_then(|()| disk.sync_dir(parent_folder(path)))
                .map_err(failed)?;
            return Ok(kept_as);
        }
    }
    Err(failed(io::Error::other("a thousand broken ones are kept already; look into them")))
}
