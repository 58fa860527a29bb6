//! What the disk in memory is made of: names and bytes, as seen and as durable.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use rustix::io::Errno;

use crate::disk::memory::{DiskFault, FaultDuration};

/// Unsynced files that are remembered before the list is cleaned of synced ones.
const DIRTY_FILES_MAX: usize = 1024;

#[derive(Debug)]
pub(super) struct MemoryDiskState {
    pub(super) entries: BTreeMap<PathBuf, FsNode>,
    /// What a name would be after a power cut, where that differs from `names`.
    pub(super) durable_entries: BTreeMap<PathBuf, Option<FsNode>>,
    /// Files with unsynced bytes, and some that have none any more.
    pub(super) dirty_files: Vec<Weak<Mutex<FileContent>>>,
    /// Syncs that failed, of one file or of all.
    pub(super) failed_syncs: u64,
    pub(super) operation_count: u64,
    pub(super) fault: Option<DiskFault>,
}

#[derive(Clone, Debug)]
pub(super) enum FsNode {
    Folder,
    File(Arc<Mutex<FileContent>>),
}

#[derive(Debug, Default)]
pub(super) struct FileContent {
    pub(super) bytes: Vec<u8>,
    /// How many of them are on the platter.
    pub(super) durable_length: usize,
    /// A sync failed: none that follows is to be believed.
    pub(super) has_failed_sync: bool,
    /// It was a sync of all, and who has the file open is still to be told.
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

    /// Forgets what is not durable: all of it, or each part by chance.
    pub(super) fn power_cut(&mut self, chance: &mut fastrand::Rng, all: bool) {
        self.fault = None;
        self.dirty_files.clear();
        for (path, node) in std::mem::take(&mut self.durable_entries) {
            if all || chance.bool() {
                self.put_entry(path, node);
            }
        }
        for node in self.entries.values() {
            if let FsNode::File(bytes) = node {
                let mut bytes = lock_mutex(bytes);
                let unsynced = if all { 0 } else { bytes.bytes.len() - bytes.durable_length };
                let kept = bytes.durable_length + chance.usize(..=unsynced);
                bytes.bytes.truncate(kept);
                bytes.durable_length = kept;
                bytes.has_failed_sync = false;
                bytes.has_unreported_failure = false;
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

    /// Changes a name, and remembers what it was when its folder was last synced.
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

    /// Forgets what lies in folders that are not there, parents before children.
    fn drop_orphans(&mut self) {
        for path in self.entries.keys().cloned().collect::<Vec<_>>() {
            if path.parent().is_some() && self.check_parent(&path).is_err() {
                self.entries.remove(&path);
            }
        }
    }

    /// Remembers a file that is about to have unsynced bytes.
    pub(super) fn mark_dirty(&mut self, bytes: &Arc<Mutex<FileContent>>) {
        if !lock_mutex(bytes).is_synced() {
            return;
        }
        if self.dirty_files.len() >= DIRTY_FILES_MAX {
            self.dirty_files.retain(|known| {
                known.upgrade().is_some_and(|bytes| !lock_mutex(&bytes).is_synced())
            });
        }
        self.dirty_files.push(Arc::downgrade(bytes));
    }
}

impl FileContent {
    fn is_synced(&self) -> bool {
        self.durable_length == self.bytes.len()
    }

    pub(super) fn complete_sync(&mut self, succeeded: bool) {
        if !succeeded && !self.is_synced() {
            self.has_failed_sync = true;
        }
        if succeeded && !self.has_failed_sync {
            self.durable_length = self.bytes.len();
        }
    }
}

pub(super) fn lock_mutex<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
