//! Disk in memory that loses unsynced data on a power cut, and fails on request.
//!
//! It is a test double for the archive, the state file and the simulation. It separates the
//! visible state from what survives a power cut: bytes up to the last sync of their file, names
//! up to the last sync of their folder. It is the worst case that the contract of [`Disk`] allows:
//!
//! - after a power cut each unsynced name has changed or not, independently of the others, and
//!   each file has lost any tail of its unsynced bytes, or is as long again as before an unsynced
//!   cut;
//! - a failed sync is reported once through the file, and once through each filesystem handle
//!   opened before; later syncs of the file return `Ok`, but it never becomes durable, unless it is
//!   cut back to what was durable before.

mod state;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, Weak};

use rustix::io::Errno;

pub use self::state::{DiskFault, FaultDuration};

use self::state::{FileContent, FsNode, MemoryDiskState, lock_mutex};
use crate::disk::{Disk, DiskFile, Filesystem, PathKind};

/// Disk in memory. Clones share their content.
#[derive(Clone, Debug)]
pub struct MemoryDisk {
    state: Arc<Mutex<MemoryDiskState>>,
}

impl Default for MemoryDisk {
    fn default() -> Self {
        Self { state: Arc::new(Mutex::new(MemoryDiskState::new())) }
    }
}

impl MemoryDisk {
    /// Returns the number of calls so far.
    #[must_use]
    pub fn operation_count(&self) -> u64 {
        self.state().operation_count
    }

    /// Sets the fault. An append that fails has written half its bytes.
    pub fn set_fault(&self, fault: DiskFault) {
        self.state().fault = Some(fault);
    }

    /// Removes the fault, so that every call succeeds again.
    pub fn clear_fault(&self) {
        self.state().fault = None;
    }

    /// Simulates a power cut and a restart. The seed decides which unsynced data survives.
    /// Seed 0 is the worst case: nothing unsynced survives.
    pub fn power_cut(&self, seed: u64) {
        self.state().power_cut(&mut fastrand::Rng::with_seed(seed), seed == 0);
    }

    /// Returns every file with its visible content.
    #[must_use]
    pub fn files(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let state = self.state();
        let files = state.entries.iter().filter_map(|(path, node)| match node {
            FsNode::File(content) => Some((path.clone(), lock_mutex(content).bytes.clone())),
            FsNode::Folder => None,
        });
        files.collect()
    }

    fn state(&self) -> MutexGuard<'_, MemoryDiskState> {
        lock_mutex(&self.state)
    }

    /// Counts a call, and returns the error of the fault if it applies.
    fn begin_operation(&self) -> io::Result<MutexGuard<'_, MemoryDiskState>> {
        let mut state = self.state();
        state.count_operation()?;
        Ok(state)
    }
}

impl Disk for MemoryDisk {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        let mut state = self.begin_operation()?;
        state.add_entry(path, FsNode::Folder)
    }

    fn create_file(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let mut state = self.begin_operation()?;
        let content = Arc::new(Mutex::new(FileContent::default()));
        state.add_entry(path, FsNode::File(Arc::clone(&content)))?;
        Ok(Box::new(MemoryFile { disk: self.clone(), content }))
    }

    fn open_append(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let mut state = self.begin_operation()?;
        let content = match state.entries.get(path) {
            Some(FsNode::File(content)) => Arc::clone(content),
            Some(FsNode::Folder) => return Err(Errno::ISDIR.into()),
            None => {
                let content = Arc::new(Mutex::new(FileContent::default()));
                state.add_entry(path, FsNode::File(Arc::clone(&content)))?;
                content
            }
        };
        Ok(Box::new(MemoryFile { disk: self.clone(), content }))
    }

    fn open_file(&self, path: &Path) -> io::Result<Box<dyn io::Read + Send>> {
        match self.begin_operation()?.entries.get(path) {
            Some(FsNode::File(content)) => {
                Ok(Box::new(io::Cursor::new(lock_mutex(content).bytes.clone())))
            }
            Some(FsNode::Folder) => Err(Errno::ISDIR.into()),
            None => Err(Errno::NOENT.into()),
        }
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.begin_operation()?;
        let Some(FsNode::File(content)) = state.entries.get(from).cloned() else {
            return Err(Errno::NOENT.into());
        };
        if matches!(state.entries.get(to), Some(FsNode::Folder)) {
            return Err(Errno::ISDIR.into());
        }
        state.check_parent(to)?;
        state.change_entry(from, None);
        state.change_entry(to, Some(FsNode::File(content)));
        Ok(())
    }

    fn hard_link(&self, existing: &Path, new: &Path) -> io::Result<()> {
        let mut state = self.begin_operation()?;
        let Some(FsNode::File(content)) = state.entries.get(existing).cloned() else {
            return Err(Errno::NOENT.into());
        };
        state.add_entry(new, FsNode::File(content))
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let mut state = self.begin_operation()?;
        match state.entries.get(path) {
            Some(FsNode::Folder) => {}
            Some(FsNode::File(_)) => return Err(Errno::NOTDIR.into()),
            None => return Err(Errno::NOENT.into()),
        }
        state.durable_entries.retain(|changed, _| changed.parent() != Some(path));
        Ok(())
    }

    fn open_filesystem(&self, _path: &Path) -> io::Result<Box<dyn Filesystem>> {
        let reported_failures = self.begin_operation()?.failed_syncs;
        Ok(Box::new(MemoryFilesystem { disk: self.clone(), reported_failures }))
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        let mut state = self.begin_operation()?;
        match state.entries.get(path) {
            Some(FsNode::File(_)) => state.change_entry(path, None),
            Some(FsNode::Folder) => return Err(Errno::ISDIR.into()),
            None => return Err(Errno::NOENT.into()),
        }
        Ok(())
    }

    fn list_dir(&self, path: &Path) -> io::Result<Vec<PathBuf>> {
        let state = self.begin_operation()?;
        if !matches!(state.entries.get(path), Some(FsNode::Folder)) {
            return Err(Errno::NOENT.into());
        }
        let descendants = state.entries.range(path.to_owned()..).map(|(entry, _)| entry);
        let descendants = descendants.take_while(|entry| entry.starts_with(path));
        let children = descendants.filter(|entry| entry.parent() == Some(path));
        Ok(children.filter_map(|entry| entry.file_name()).map(PathBuf::from).collect())
    }

    fn path_kind(&self, path: &Path) -> io::Result<Option<PathKind>> {
        Ok(self.begin_operation()?.entries.get(path).map(|node| match node {
            FsNode::Folder => PathKind::Folder,
            FsNode::File(content) => {
                PathKind::File { bytes: lock_mutex(content).bytes.len() as u64 }
            }
        }))
    }
}

#[derive(Debug)]
struct MemoryFile {
    disk: MemoryDisk,
    content: Arc<Mutex<FileContent>>,
}

impl DiskFile for MemoryFile {
    fn append(&mut self, new: &[u8]) -> io::Result<()> {
        let mut state = self.disk.state();
        state.mark_dirty(&self.content);
        let outcome = state.count_operation();
        let written = if outcome.is_ok() { new.len() } else { new.len() / 2 };
        lock_mutex(&self.content).bytes.extend_from_slice(&new[..written]);
        outcome
    }

    fn truncate(&mut self, length: u64) -> io::Result<()> {
        let mut state = self.disk.state();
        state.mark_dirty(&self.content);
        state.count_operation()?;
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        lock_mutex(&self.content).truncate(length);
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        let mut state = self.disk.state();
        let outcome = state.count_operation();
        state.failed_syncs += u64::from(outcome.is_err());
        let mut content = lock_mutex(&self.content);
        content.complete_sync(outcome.is_ok());
        let has_unreported_failure = std::mem::take(&mut content.has_unreported_failure);
        outcome.and_then(|()| sync_result(has_unreported_failure))
    }
}

#[derive(Debug)]
struct MemoryFilesystem {
    disk: MemoryDisk,
    /// Number of failed syncs already reported through this handle.
    reported_failures: u64,
}

impl Filesystem for MemoryFilesystem {
    fn sync(&mut self) -> io::Result<()> {
        let mut state = self.disk.state();
        let outcome = state.count_operation();
        for content in std::mem::take(&mut state.dirty_files).iter().filter_map(Weak::upgrade) {
            let mut content = lock_mutex(&content);
            content.complete_sync(outcome.is_ok());
            content.has_unreported_failure |= outcome.is_err() && content.has_failed_sync;
        }
        match outcome {
            Ok(()) => state.durable_entries.clear(),
            Err(_) => state.failed_syncs += 1,
        }
        let has_unreported_failure =
            std::mem::replace(&mut self.reported_failures, state.failed_syncs) < state.failed_syncs;
        outcome.and_then(|()| sync_result(has_unreported_failure))
    }
}

/// Reports an earlier failed sync as EIO.
fn sync_result(has_unreported_failure: bool) -> io::Result<()> {
    if has_unreported_failure { Err(Errno::IO.into()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATH: &str = "/file";

    #[test]
    fn a_power_cut_loses_unsynced_bytes() {
        let disk = MemoryDisk::default();
        let mut file = disk.create_file(Path::new(PATH)).unwrap();
        disk.sync_dir(Path::new("/")).unwrap();
        file.append(b"kept").unwrap();
        file.sync().unwrap();
        file.append(b"lost").unwrap();
        disk.create_file(Path::new("/unnamed")).unwrap().sync().unwrap();

        disk.power_cut(0);

        assert_eq!(disk.files().into_iter().collect::<Vec<_>>(), [(PATH.into(), b"kept".into())]);
    }

    #[test]
    fn a_power_cut_undoes_an_unsynced_cut() {
        for is_synced in [false, true] {
            let disk = MemoryDisk::default();
            let mut file = disk.create_file(Path::new(PATH)).unwrap();
            disk.sync_dir(Path::new("/")).unwrap();
            file.append(b"onetwothree").unwrap();
            file.sync().unwrap();

            file.truncate(6).unwrap();
            file.append(b"four").unwrap();
            file.truncate(3).unwrap();
            if is_synced {
                file.sync().unwrap();
            }
            file.append(b"five").unwrap();
            disk.power_cut(0);

            let expected: &[u8] = if is_synced { b"one" } else { b"onetwothree" };
            assert_eq!(disk.read_file(Path::new(PATH)).unwrap(), expected);
        }
    }

    #[test]
    fn a_file_that_is_cut_back_after_a_failed_sync_can_be_durable() {
        let disk = MemoryDisk::default();
        let mut file = disk.create_file(Path::new(PATH)).unwrap();
        disk.sync_dir(Path::new("/")).unwrap();
        file.append(b"kept").unwrap();
        file.sync().unwrap();
        file.append(b"lost").unwrap();
        disk.set_fault(DiskFault {
            at_operation: disk.operation_count(),
            duration: FaultDuration::Once,
            errno: Errno::IO,
        });
        file.sync().unwrap_err();

        file.truncate(4).unwrap();
        file.append(b"new").unwrap();
        file.sync().unwrap();
        disk.power_cut(0);

        assert_eq!(disk.read_file(Path::new(PATH)).unwrap(), b"keptnew");
    }

    #[test]
    fn a_file_with_a_failed_sync_is_never_durable() {
        let disk = MemoryDisk::default();
        let mut file = disk.create_file(Path::new(PATH)).unwrap();
        file.append(b"bytes").unwrap();
        let mut filesystem = disk.open_filesystem(Path::new("/")).unwrap();
        let mut other_filesystem = disk.open_filesystem(Path::new("/")).unwrap();
        disk.set_fault(DiskFault {
            at_operation: disk.operation_count(),
            duration: FaultDuration::Once,
            errno: Errno::IO,
        });

        assert!(filesystem.sync().is_err());
        assert!(file.sync().is_err() && other_filesystem.sync().is_err(), "each reports it once");
        file.sync().unwrap();
        filesystem.sync().unwrap();
        other_filesystem.sync().unwrap();
        disk.open_filesystem(Path::new("/")).unwrap().sync().unwrap();
        disk.power_cut(0);

        assert_eq!(disk.read_file(Path::new(PATH)).unwrap(), b"");
    }
}
