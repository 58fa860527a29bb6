//! Writer of mbox files, one for each folder. A message in several folders is in each of their
//! files.
//!
//! The state file has the lengths that count. A file that the current group creates is not in it
//! yet, so a list of these is on disk before they are created.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use cynosure_engine::Failure;

use crate::disk::{Disk, DiskFile, Filesystem};
use crate::export::failure::write_failure;
use crate::export::folder_names::ExportedFolder;
use crate::export::group_list::GroupList;
use crate::export::mboxrd::{FromQuoter, separator_line};
use crate::export::options::LineEnds;
use crate::export::state::ExportedSource;
use crate::export::writer::{ExportEntry, ExportWriter, create_parent, cut_back};

/// Files that are open at a time. A process may have 1,024 by default.
const OPEN_FILES_MAX: usize = 64;

/// Bytes of a message that are collected before they are written. Most messages are shorter.
const BUFFER_BYTES: usize = 64 * 1024;

/// Writer of one source as mbox files.
#[derive(Debug)]
pub(super) struct MboxWriter<'a> {
    disk: &'a dyn Disk,
    /// Folder of the source.
    root: PathBuf,
    filesystem: Box<dyn Filesystem>,
    group_list: GroupList<'a>,
    /// Paths of the files that were created since the last commit.
    new_files: Vec<String>,
    /// Open files with the positions of their folders, the last used one at the end.
    open_files: Vec<(usize, Box<dyn DiskFile>)>,
    /// Lengths of the files that were changed since the last commit, by the positions of their
    /// folders.
    lengths: BTreeMap<usize, u64>,
}

impl<'a> MboxWriter<'a> {
    /// Creates the writer of a source below `root`, which exists, in an export into `dir`.
    ///
    /// # Errors
    /// A storage failure.
    pub(super) fn new(disk: &'a dyn Disk, dir: &Path, root: PathBuf) -> Result<Self, Failure> {
        let filesystem =
            disk.open_filesystem(&root).map_err(|error| write_failure("access", &root, &error))?;
        Ok(Self {
            disk,
            root,
            filesystem,
            group_list: GroupList::new(disk, dir),
            new_files: Vec::new(),
            open_files: Vec::new(),
            lengths: BTreeMap::new(),
        })
    }

    /// Lists the files that these folders do not have yet, durably and before they are created.
    fn list_new_files(
        &mut self,
        source: &ExportedSource,
        folders: &[(usize, &ExportedFolder)],
    ) -> Result<(), Failure> {
        let listed = self.new_files.len();
        for (position, folder) in folders {
            if folder.length == 0 && !self.lengths.contains_key(position) {
                self.new_files.push(folder.path.clone());
            }
        }
        if self.new_files.len() == listed {
            return Ok(());
        }
        self.group_list.replace_durably(source, self.new_files.clone())
    }

    /// Opens the file of a folder as the last used one. Closes the one that was not used for the
    /// longest time if there are too many.
    fn open(&mut self, position: usize, folder: &ExportedFolder) -> Result<(), Failure> {
        let found = self.open_files.iter().position(|(open, _)| *open == position);
        let file = if let Some(index) = found {
            self.open_files.remove(index).1
        } else {
            if self.open_files.len() >= OPEN_FILES_MAX {
                drop(self.open_files.remove(0));
            }
            create_parent(self.disk, &self.root, &folder.path)?;
            let path = self.root.join(&folder.path);
            self.disk.open_append(&path).map_err(|error| write_failure("create", &path, &error))?
        };
        self.open_files.push((position, file));
        Ok(())
    }

    /// Appends bytes to the file that was opened last, and counts them.
    fn append(
        &mut self,
        (position, folder): (usize, &ExportedFolder),
        bytes: &mut Vec<u8>,
    ) -> Result<(), Failure> {
        if let Some((_, file)) = self.open_files.last_mut() {
            let path = self.root.join(&folder.path);
            file.append(bytes).map_err(|error| write_failure("write", &path, &error))?;
            *self.lengths.entry(position).or_insert(folder.length) += bytes.len() as u64;
        }
        bytes.clear();
        Ok(())
    }

    fn add_to(
        &mut self,
        entry: &ExportEntry<'_>,
        target: (usize, &ExportedFolder),
    ) -> Result<(), Failure> {
        self.open(target.0, target.1)?;
        let disk = self.disk;
        let line_end: &[u8] = match entry.line_ends {
            LineEnds::Keep | LineEnds::Lf => b"\n",
            LineEnds::Crlf => b"\r\n",
        };
        let mut buffer = separator_line(entry.time).into_bytes();
        buffer.extend_from_slice(line_end);
        let mut quoter = FromQuoter::new();
        let mut last_byte = None;
        entry.content.for_each_chunk(disk, entry.line_ends, |chunk| {
            last_byte = chunk.last().copied().or(last_byte);
            quoter.quote(chunk, &mut buffer);
            if buffer.len() < BUFFER_BYTES { Ok(()) } else { self.append(target, &mut buffer) }
        })?;
        quoter.finish(last_byte, line_end, &mut buffer);
        self.append(target, &mut buffer)
    }

    fn sync(&mut self) -> Result<(), Failure> {
        let root = &self.root;
        self.filesystem.sync().map_err(|error| write_failure("sync", root, &error))
    }
}

impl ExportWriter for MboxWriter<'_> {
    fn recover(&mut self, source: &ExportedSource) -> Result<(), Failure> {
        for folder in &source.folders {
            cut_back(self.disk, &self.root.join(&folder.path), folder.length)?;
        }
        self.group_list.remove_files(source, &self.root)?;
        // Before the next group replaces the list.
        self.sync()
    }

    fn add(
        &mut self,
        source: &ExportedSource,
        entry: &ExportEntry<'_>,
        folders: &[(usize, &ExportedFolder)],
    ) -> Result<(), Failure> {
        self.list_new_files(source, folders)?;
        folders.iter().try_for_each(|target| self.add_to(entry, *target))
    }

    fn commit(&mut self, source: &mut ExportedSource) -> Result<(), Failure> {
        if self.lengths.is_empty() {
            return Ok(());
        }
        self.sync()?;
        self.new_files.clear();
        for (position, length) in std::mem::take(&mut self.lengths) {
            if let Some(folder) = source.folders.get_mut(position) {
                folder.length = length;
            }
        }
        Ok(())
    }

    fn finish(&mut self, _source: &ExportedSource) -> Result<(), Failure> {
        self.sync()
    }

    fn clean_up(&mut self) -> Result<(), Failure> {
        self.open_files.clear();
        self.group_list.remove()
    }
}
