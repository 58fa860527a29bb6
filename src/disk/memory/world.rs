//! What the disk in memory is made of: names and bytes, as seen and as durable.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use rustix::io::Errno;

use crate::disk::memory::{Fault, Lasting};

/// Unsynced files that are remembered before the list is cleaned of synced ones.
const DIRTY_MAX: usize = 1024;

#[derive(Debug)]
pub(super) struct World {
    pub(super) names: BTreeMap<PathBuf, Node>,
    /// What a name would be after a power cut, where that differs from `names`.
    pub(super) durable: BTreeMap<PathBuf, Option<Node>>,
    /// Files with unsynced bytes, and some that have none any more.
    pub(super) dirty: Vec<Weak<Mutex<Bytes>>>,
    /// Syncs that failed, of one file or of all.
    pub(super) failed_syncs: u64,
    pub(super) operations: u64,
    pub(super) fault: Option<Fault>,
}

#[derive(Clone, Debug)]
pub(super) enum Node {
    Folder,
    File(Arc<Mutex<Bytes>>),
}

#[derive(Debug, Default)]
pub(super) struct Bytes {
    pub(super) all: Vec<u8>,
    /// How many of them are on the platter.
    pub(super) durable: usize,
    /// A sync failed: none that follows is to be believed.
    pub(super) distrusted: bool,
    /// It was a sync of all, and who has the file open is still to be told.
    pub(super) is_failure_untold: bool,
}

impl World {
    pub(super) fn new() -> Self {
        Self {
            names: BTreeMap::from([(PathBuf::from("/"), Node::Folder)]),
            durable: BTreeMap::new(),
            dirty: Vec::new(),
            failed_syncs: 0,
            operations: 0,
            fault: None,
        }
    }

    /// Forgets what is not durable: all of it, or each part by chance.
    pub(super) fn power_cut(&mut self, chance: &mut fastrand::Rng, all: bool) {
        self.fault = None;
        self.dirty.clear();
        for (path, node) in std::mem::take(&mut self.durable) {
            if all || chance.bool() {
                self.put(path, node);
            }
        }
        for node in self.names.values() {
            if let Node::File(bytes) = node {
                let mut bytes = lock(bytes);
                let unsynced = if all { 0 } else { bytes.all.len() - bytes.durable };
                let kept = bytes.durable + chance.usize(..=unsynced);
                bytes.all.truncate(kept);
                bytes.durable = kept;
                bytes.distrusted = false;
                bytes.is_failure_untold = false;
            }
        }
        self.drop_orphans();
    }

    pub(super) fn step(&mut self) -> io::Result<()> {
        let number = self.operations;
        self.operations += 1;
        match self.fault {
            Some(fault) if number == fault.at => Err(fault.errno.into()),
            Some(fault) if number > fault.at && fault.lasting == Lasting::FromThenOn => {
                Err(fault.errno.into())
            }
            Some(_) | None => Ok(()),
        }
    }

    pub(super) fn in_folder(&self, path: &Path) -> io::Result<()> {
        match path.parent().and_then(|parent| self.names.get(parent)) {
            Some(Node::Folder) => Ok(()),
            Some(Node::File(_)) => Err(Errno::NOTDIR.into()),
            None => Err(Errno::NOENT.into()),
        }
    }

    pub(super) fn add(&mut self, path: &Path, node: Node) -> io::Result<()> {
        if self.names.contains_key(path) {
            return Err(Errno::EXIST.into());
        }
        self.in_folder(path)?;
        self.change(path, Some(node));
        Ok(())
    }

    /// Changes a name, and remembers what it was when its folder was last synced.
    pub(super) fn change(&mut self, path: &Path, node: Option<Node>) {
        let before = self.names.get(path).cloned();
        self.durable.entry(path.to_owned()).or_insert(before);
        self.put(path.to_owned(), node);
    }

    fn put(&mut self, path: PathBuf, node: Option<Node>) {
        match node {
            Some(node) => self.names.insert(path, node),
            None => self.names.remove(&path),
        };
    }

    /// Forgets what lies in folders that are not there, parents before children.
    fn drop_orphans(&mut self) {
        for path in self.names.keys().cloned().collect::<Vec<_>>() {
            if path.parent().is_some() && self.in_folder(&path).is_err() {
                self.names.remove(&path);
            }
        }
    }

    /// Remembers a file that is about to have unsynced bytes.
    pub(super) fn note_dirty(&mut self, bytes: &Arc<Mutex<Bytes>>) {
        if !lock(bytes).is_synced() {
            return;
        }
        if self.dirty.len() >= DIRTY_MAX {
            self.dirty
                .retain(|known| known.upgrade().is_some_and(|bytes| !lock(&bytes).is_synced()));
        }
        self.dirty.push(Arc::downgrade(bytes));
    }
}

impl Bytes {
    fn is_synced(&self) -> bool {
        self.durable == self.all.len()
    }

    pub(super) fn sync(&mut self, succeeded: bool) {
        if !succeeded && !self.is_synced() {
            self.distrusted = true;
        }
        if succeeded && !self.distrusted {
            self.durable = self.all.len();
        }
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
