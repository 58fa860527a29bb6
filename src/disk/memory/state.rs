//! State of the disk in memory: names and bytes, as visible and as durable.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use rustix::io::Errno;

/// Number of tracked unsynced files at which synced ones are removed from the list.
const DIRTY_FILES_MAX: usize = 1024;

#[derive(Debug)]
pub(super) struct MemoryDiskState {
    pub(super) entries: BTreeMap<PathBuf, FsNode>,
    /// State of each name after a power cut, if it differs from `entries`.
    pub(super) durable_entries: BTreeMap<PathBuf, Option<FsNode>>,
    /// Files with unsynced bytes, and some that have been synced since.
    pub(super) dirty_files: Vec<Weak<Mutex<FileContent>>>,
    /// Number of failed syncs, of one file or of the filesystem.
    pub(super) failed_syncs: u64,
    pub(super) operation_count: u64,
    pub(super) fault: Option<DiskFault>,
}

/// Fault that makes calls fail. Calls are counted from 0 over the life of the disk.
#[derive(Clone, Copy, Debug)]
pub struct DiskFault {
    pub at_operation: u64,
    pub duration: FaultDuration,
    pub errno: Errno,
}

/// Duration of a fault.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum FaultDuration {
    Once,
    /// Lasts until it is cleared, or until a power cut.
    Permanent,
}

impl DiskFault {
    /// Fails all calls from number `at` on, as if the process was killed.
    #[must_use]
    pub fn stop_at(at: u64) -> Self {
        Self { at_operation: at, duration: FaultDuration::Permanent, errno: Errno::IO }
    }
}

#[derive(Clone, Debug)]
pub(super) enum FsNode {
    Folder,
    File(Arc<Mutex<FileContent>>),
}

#[derive(Debug, Default)]
pub(super) struct FileContent {
    pub(super) bytes: Vec<u8>,
    /// Number of leading bytes that are durable.
    pub(super) durable_length: usize,
    /// Durable bytes behind those that were cut off. The file has them again after a power cut,
    /// unless a sync has made the cut durable.
    pub(super) durable_tail: Vec<u8>,
    /// True after a failed sync. Later syncs never make the file durable, unless it is cut back.
    pub(super) has_failed_sync: bool,
    /// True if a filesystem sync failed and the next sync of this file must still report it.
    pub(super) has_unreported_failure: bool,
}

impl MemoryDiskState {
    pub(super) fn new() -> Self {
        Self {
            entries: BTreeMap::from([(PathBuf::from("/"), FsNode::Folder)]),
            durable_entries: BTreeMap::new(),
            dirty_files: Vec::new(),
            failed_syncs: 0,
            operation_count: 0,
            fault: None,
        }
    }

    /// Discards what is not durable: all of it, or each part at random.
    pub(super) fn power_cut(&mut self, rng: &mut fastrand::Rng, lose_all: bool) {
        self.fault = None;
        self.dirty_files.clear();
        for (path, node) in std::mem::take(&mut self.durable_entries) {
            if lose_all || rng.bool() {
                self.put_entry(path, node);
            }
        }
        for node in self.entries.values() {
            if let FsNode::File(content) = node {
                let mut content = lock_mutex(content);
                let tail = std::mem::take(&mut content.durable_tail);
                if !tail.is_empty() && (lose_all || rng.bool()) {
                    let durable_length = content.durable_length;
                    content.bytes.truncate(durable_length);
                    content.bytes.extend(tail);
                    content.durable_length = content.bytes.len();
                }
                let unsynced =
                    if lose_all { 0 } else { content.bytes.len() - content.durable_length };
                let durable_length = content.durable_length + rng.usize(..=unsynced);
                content.bytes.truncate(durable_length);
                content.durable_length = durable_length;
                content.has_failed_sync = false;
                content.has_unreported_failure = false;
            }
        }
        self.drop_orphans();
    }

    pub(super) fn count_operation(&mut self) -> io::Result<()> {
        let number = self.operation_count;
        self.operation_count += 1;
        match self.fault {
            Some(fault) if number == fault.at_operation => Err(fault.errno.into()),
            Some(fault)
                if number > fault.at_operation && fault.duration == FaultDuration::Permanent =>
            {
                Err(fault.errno.into())
            }
            Some(_) | None => Ok(()),
        }
    }

    pub(super) fn check_parent(&self, path: &Path) -> io::Result<()> {
        match path.parent().and_then(|parent| self.entries.get(parent)) {
            Some(FsNode::Folder) => Ok(()),
            Some(FsNode::File(_)) => Err(Errno::NOTDIR.into()),
            None => Err(Errno::NOENT.into()),
        }
    }

    pub(super) fn add_entry(&mut self, path: &Path, node: FsNode) -> io::Result<()> {
        if self.entries.contains_key(path) {
            return Err(Errno::EXIST.into());
        }
        self.check_parent(path)?;
        self.change_entry(path, Some(node));
        Ok(())
    }

    /// Changes a name, and records its state at the last sync of its folder.
    pub(super) fn change_entry(&mut self, path: &Path, node: Option<FsNode>) {
        let before = self.entries.get(path).cloned();
        self.durable_entries.entry(path.to_owned()).or_insert(before);
        self.put_entry(path.to_owned(), node);
    }

    fn put_entry(&mut self, path: PathBuf, node: Option<FsNode>) {
        match node {
            Some(node) => self.entries.insert(path, node),
            None => self.entries.remove(&path),
        };
    }

    /// Removes entries whose parent folder does not exist, parents before children.
    fn drop_orphans(&mut self) {
        for path in self.entries.keys().cloned().collect::<Vec<_>>() {
            if path.parent().is_some() && self.check_parent(&path).is_err() {
                self.entries.remove(&path);
            }
        }
    }

    /// Tracks a file that is about to have unsynced bytes.
    pub(super) fn mark_dirty(&mut self, content: &Arc<Mutex<FileContent>>) {
        if !lock_mutex(content).is_synced() {
            return;
        }
        if self.dirty_files.len() >= DIRTY_FILES_MAX {
            self.dirty_files.retain(|file| {
                file.upgrade().is_some_and(|content| !lock_mutex(&content).is_synced())
            });
        }
        self.dirty_files.push(Arc::downgrade(content));
    }
}

impl FileContent {
    fn is_synced(&self) -> bool {
        self.durable_length == self.bytes.len() && self.durable_tail.is_empty()
    }

    /// Cuts the content back to `length` bytes. If all of them are durable, nothing is left of the
    /// bytes whose sync failed, and the file can become durable again.
    pub(super) fn truncate(&mut self, length: usize) {
        if let Some(cut) = self.bytes.get(length..self.durable_length) {
            let mut tail = cut.to_vec();
            tail.append(&mut self.durable_tail);
            self.durable_tail = tail;
            self.durable_length = length;
        }
        self.bytes.truncate(length);
        self.has_failed_sync &= self.durable_length < self.bytes.len();
    }

    pub(super) fn complete_sync(&mut self, succeeded: bool) {
        if !succeeded && !self.is_synced() {
            self.has_failed_sync = true;
        }
        if succeeded && !self.has_failed_sync {
            self.durable_length = self.bytes.len();
            self.durable_tail.clear();
        }
    }
}

pub(super) fn lock_mutex<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
