//! Writer of a Maildir: a file for each message, named after its row, so that a repeated export has
//! the same names.
//!
//! A group of messages is written into a staging folder and synced, then renamed to its final names
//! and synced again. Between the two, a list of the final names is on disk, by which the next
//! process removes a group that does not count.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use cynosure_engine::{Failure, Timestamp};

use crate::disk::{Disk, Filesystem};
use crate::export::content::{CHUNK_BYTES, read_chunk};
use crate::export::failure::write_failure;
use crate::export::folder_names::ExportedFolder;
use crate::export::group_list::GroupList;
use crate::export::options::MaildirLayout;
use crate::export::state::ExportedSource;
use crate::export::target::work_folder;
use crate::export::writer::{ExportEntry, ExportWriter, create_folders, remove_if_present};

/// Folders of a Maildir. Messages are put into the first.
const MAILDIR_FOLDERS: [&str; 3] = ["cur", "new", "tmp"];

/// Empty file that marks a folder in Maildir++.
const FOLDER_MARKER: &str = "maildirfolder";

/// Folder for messages that are being written, in the work folder.
const STAGING_FOLDER: &str = "staged";

/// Writer of one source as a Maildir.
#[derive(Debug)]
pub(super) struct MaildirWriter<'a> {
    disk: &'a dyn Disk,
    /// Folder of the source.
    root: PathBuf,
    work: PathBuf,
    layout: MaildirLayout,
    filesystem: Box<dyn Filesystem>,
    group_list: GroupList<'a>,
    staged: Vec<StagedMessage>,
    /// Positions of the folders that exist.
    created: BTreeSet<usize>,
}

/// Message of a group that is written and not in its folders yet.
#[derive(Debug)]
struct StagedMessage {
    path: PathBuf,
    time: Timestamp,
    /// Final paths, relative to the folder of the source. Never empty.
    targets: Vec<String>,
}

impl<'a> MaildirWriter<'a> {
    /// Creates the writer of a source below `root`, in an export into `dir`.
    ///
    /// # Errors
    /// A storage failure.
    pub(super) fn new(
        disk: &'a dyn Disk,
        dir: &Path,
        root: PathBuf,
        layout: MaildirLayout,
    ) -> Result<Self, Failure> {
        let work = work_folder(dir);
        create_folders(disk, &work, Path::new(STAGING_FOLDER))?;
        let filesystem =
            disk.open_filesystem(&work).map_err(|error| write_failure("access", &work, &error))?;
        let group_list = GroupList::new(disk, dir);
        let (staged, created) = (Vec::new(), BTreeSet::new());
        Ok(Self { disk, root, work, layout, filesystem, group_list, staged, created })
    }

    fn staging_path(&self, number: usize) -> PathBuf {
        self.work.join(STAGING_FOLDER).join(number.to_string())
    }

    fn remove_staged(&self) -> Result<(), Failure> {
        let folder = self.work.join(STAGING_FOLDER);
        let names = self.disk.list_dir(&folder);
        for name in names.map_err(|error| write_failure("list", &folder, &error))? {
            remove_if_present(self.disk, &folder.join(name))?;
        }
        Ok(())
    }

    fn create_maildir(&mut self, position: usize, folder: &ExportedFolder) -> Result<(), Failure> {
        if !self.created.insert(position) {
            return Ok(());
        }
        let path = Path::new(&folder.path);
        create_folders(self.disk, &self.root, path)?;
        for name in MAILDIR_FOLDERS {
            create_folders(self.disk, &self.root.join(path), Path::new(name))?;
        }
        if self.layout == MaildirLayout::PlusPlus && !folder.path.is_empty() {
            let marker = self.root.join(path).join(FOLDER_MARKER);
            match self.disk.create_file(&marker) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                    return Err(write_failure("create", &marker, &error));
                }
                Ok(_) | Err(_) => {}
            }
        }
        Ok(())
    }

    /// Writes a message into the staging folder. Returns its size in bytes.
    fn stage(&self, path: &Path, entry: &ExportEntry<'_>) -> Result<u64, Failure> {
        let to_failure = |error: io::Error| write_failure("write", path, &error);
        let mut file = self.disk.create_file(path).map_err(to_failure)?;
        let mut size = 0;
        entry.content.for_each_chunk(self.disk, entry.line_ends, |chunk| {
            size += chunk.len() as u64;
            file.append(chunk).map_err(to_failure)
        })?;
        file.set_modified(entry.time).map_err(to_failure)?;
        Ok(size)
    }

    fn sync(&mut self) -> Result<(), Failure> {
        let work = &self.work;
        self.filesystem.sync().map_err(|error| write_failure("sync", work, &error))
    }

    /// Moves a message to its first folder, and links or copies it to the others.
    fn publish(&self, message: &StagedMessage) -> Result<(), Failure> {
        let mut targets = message.targets.iter().map(|target| self.root.join(target));
        let Some(first) = targets.next() else { return Ok(()) };
        self.disk
            .rename(&message.path, &first)
            .map_err(|error| write_failure("write", &first, &error))?;
        for target in targets {
            match self.disk.hard_link(&first, &target) {
                Ok(()) => {}
                Err(error) if can_copy_instead(&error) => {
                    self.copy(&first, &target, message)?;
                }
                Err(error) => return Err(write_failure("write", &target, &error)),
            }
        }
        Ok(())
    }

    fn copy(&self, from: &Path, to: &Path, message: &StagedMessage) -> Result<(), Failure> {
        let copy = || {
            let mut original = self.disk.open_file(from)?;
            // Its name is free, because the first copy was moved away.
            let mut file = self.disk.create_file(&message.path)?;
            let mut chunk = vec![0; CHUNK_BYTES];
            loop {
                let bytes = read_chunk(&mut original, &mut chunk)?;
                if bytes.is_empty() {
                    break;
                }
                file.append(bytes)?;
            }
            file.set_modified(message.time)?;
            self.disk.rename(&message.path, to)
        };
        copy().map_err(|error| write_failure("write", to, &error))
    }
}

impl ExportWriter for MaildirWriter<'_> {
    fn recover(&mut self, source: &ExportedSource) -> Result<(), Failure> {
        self.remove_staged()?;
        self.group_list.remove_files(source, &self.root)?;
        // Before the next group replaces the list.
        self.sync()
    }

    fn add(
        &mut self,
        _source: &ExportedSource,
        entry: &ExportEntry<'_>,
        folders: &[(usize, &ExportedFolder)],
    ) -> Result<(), Failure> {
        for (position, folder) in folders {
            self.create_maildir(*position, folder)?;
        }
        let path = self.staging_path(self.staged.len());
        let size = self.stage(&path, entry)?;
        let name = message_file_name(entry, size);
        let targets = folders.iter().map(|(_, folder)| match folder.path.as_str() {
            "" => format!("cur/{name}"),
            path => format!("{path}/cur/{name}"),
        });
        let targets = targets.collect();
        self.staged.push(StagedMessage { path, time: entry.time, targets });
        Ok(())
    }

    fn commit(&mut self, source: &mut ExportedSource) -> Result<(), Failure> {
        if self.staged.is_empty() {
            return Ok(());
        }
        let targets = self.staged.iter().flat_map(|message| message.targets.iter().cloned());
        self.group_list.replace(source, targets.collect())?;
        self.sync()?;
        for message in std::mem::take(&mut self.staged) {
            self.publish(&message)?;
        }
        self.sync()
    }

    fn finish(&mut self, _source: &ExportedSource) -> Result<(), Failure> {
        self.sync()
    }

    fn clean_up(&mut self) -> Result<(), Failure> {
        self.group_list.remove()
    }
}

/// Returns the name of a message: its time, its row and version, its size, and that it was read.
fn message_file_name(entry: &ExportEntry<'_>, size: u64) -> String {
    let seconds = entry.time.unix_seconds().max(0);
    let (row, version) = (entry.document.row_id.0, entry.version);
    format!("{seconds}.D{row}V{version}.cynosure,S={size}:2,S")
}

/// True if the filesystem has no hard links, or no more of this file.
fn can_copy_instead(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::PermissionDenied
            | io::ErrorKind::Unsupported
            | io::ErrorKind::TooManyLinks
            | io::ErrorKind::CrossesDevices
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_copied_where_it_cannot_be_linked() {
        use io::ErrorKind::{NotFound, PermissionDenied, StorageFull, Unsupported};

        let can_copy = [PermissionDenied, Unsupported, StorageFull, NotFound]
            .map(|kind| can_copy_instead(&kind.into()));
        assert_eq!(can_copy, [true, true, false, false]);
    }
}
