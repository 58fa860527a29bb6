//! List of the files that a group creates. By it, the next process removes a group that does not
//! count.

use std::path::{Component, Path, PathBuf};

use cynosure_engine::Failure;
use serde::{Deserialize, Serialize};

use crate::disk::{Disk, read_small_file, write_durable, write_unsynced};
use crate::export::failure::write_failure;
use crate::export::state::ExportedSource;
use crate::export::target::work_folder;
use crate::export::writer::remove_if_present;

/// File of the list, in the work folder.
const GROUP_FILE: &str = "group.json";

/// Maximum size of the list, in bytes: many folders of each message of a group, with long names.
const GROUP_FILE_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// List of the newest group of an export, in a file.
#[derive(Debug)]
pub(super) struct GroupList<'a> {
    disk: &'a dyn Disk,
    path: PathBuf,
}

/// Content of the list.
#[derive(Debug, Deserialize, Serialize)]
struct GroupFiles {
    source: String,
    /// Last row of the group before. The group counts once the state file names a later one.
    after_row: i64,
    /// Paths relative to the folder of the source.
    files: Vec<String>,
}

impl<'a> GroupList<'a> {
    /// Creates the list of an export into `dir`, without reading or writing it.
    #[must_use]
    pub(super) fn new(disk: &'a dyn Disk, dir: &Path) -> Self {
        Self { disk, path: work_folder(dir).join(GROUP_FILE) }
    }

    /// Replaces the list. The next sync of the filesystem makes it durable.
    ///
    /// # Errors
    /// A storage failure.
    pub(super) fn replace(
        &self,
        source: &ExportedSource,
        files: Vec<String>,
    ) -> Result<(), Failure> {
        write_unsynced(self.disk, &self.path, &to_json(source, files))
            .map_err(|error| write_failure("write", &self.path, &error))
    }

    /// Replaces the list durably.
    ///
    /// # Errors
    /// A storage failure.
    pub(super) fn replace_durably(
        &self,
        source: &ExportedSource,
        files: Vec<String>,
    ) -> Result<(), Failure> {
        write_durable(self.disk, &self.path, &to_json(source, files))
            .map_err(|error| write_failure("write", &self.path, &error))
    }

    /// Removes the files of a group of this source that does not count, below its folder `root`.
    ///
    /// # Errors
    /// A storage failure.
    pub(super) fn remove_files(&self, source: &ExportedSource, root: &Path) -> Result<(), Failure> {
        let read = read_small_file(self.disk, &self.path, GROUP_FILE_BYTES_MAX)
            .map_err(|error| write_failure("read", &self.path, &error))?;
        // A list that was not durable yet is of a group of which no file was created.
        let json = read.and_then(Result::ok);
        let group = json.and_then(|json| serde_json::from_slice::<GroupFiles>(&json).ok());
        let Some(GroupFiles { source: name, after_row, files }) = group else { return Ok(()) };
        if name == source.name && after_row == source.last_row {
            for file in files.iter().filter(|file| is_below(file)) {
                remove_if_present(self.disk, &root.join(file))?;
            }
        }
        Ok(())
    }

    /// Removes the list.
    ///
    /// # Errors
    /// A storage failure.
    pub(super) fn remove(&self) -> Result<(), Failure> {
        remove_if_present(self.disk, &self.path)
    }
}

fn to_json(source: &ExportedSource, files: Vec<String>) -> Vec<u8> {
    let group = GroupFiles { source: source.name.clone(), after_row: source.last_row, files };
    // Serialization cannot fail: all keys are strings.
    serde_json::to_vec(&group).unwrap_or_default()
}

/// True for a relative path that leads to no other place.
fn is_below(path: &str) -> bool {
    !path.is_empty()
        && Path::new(path).components().all(|part| matches!(part, Component::Normal(_)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_paths_below_the_folder_are_removed() {
        assert!(["cur/1", "A/cur/1"].into_iter().all(is_below));
        assert!(!["/etc/x", "../x", "a/../x", "./x", ""].into_iter().any(is_below));
    }
}
