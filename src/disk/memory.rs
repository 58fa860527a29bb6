//! A disk in memory that forgets what was not synced, and fails on request.
//!
//! A test double for the archive, the state file and the simulation. It keeps
//! apart what a running system sees and what would outlive a power cut: bytes up
//! to the last sync of their file, names up to the last sync of their folder.
//! It is as unkind as the contract of [`Disk`] allows:
//!
//! - after a power cut each unsynced name has changed or not, independently of
//!   the others, and each file has lost any tail of its unsynced bytes;
//! - a file whose sync failed says `Ok` ever after, and is never durable.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use rustix::io::Errno;

use crate::disk::{Disk, DiskFile, Filesystem, PathKind};

/// Unsynced files that are remembered before the list is cleaned of synced ones.
const DIRTY_MAX: usize = 1024;

/// A disk in memory. Clones share it.
#[derive(Clone, Debug)]
pub struct MemoryDisk {
    world: Arc<Mutex<World>>,
}

/// Which calls fail, and how. Calls are counted from 0 over the life of the disk.
#[derive(Clone, Copy, Debug)]
pub struct Fault {
    pub at: u64,
    pub lasting: Lasting,
    pub errno: Errno,
}

/// How long a fault lasts.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Lasting {
    Once,
    /// Until [`MemoryDisk::heal`], or a power cut.
    FromThenOn,
}

#[derive(Debug)]
struct World {
    names: BTreeMap<PathBuf, Node>,
    /// What a name would be after a power cut, where that differs from `names`.
    durable: BTreeMap<PathBuf, Option<Node>>,
    /// Files with unsynced bytes, and some that have none any more.
    dirty: Vec<Weak<Mutex<Bytes>>>,
    operations: u64,
    fault: Option<Fault>,
}

#[derive(Clone, Debug)]
enum Node {
    Folder,
    File(Arc<Mutex<Bytes>>),
}

#[derive(Debug, Default)]
struct Bytes {
    all: Vec<u8>,
    /// How many of them are on the platter.
    durable: usize,
    /// A sync failed: none that follows is to be believed.
    distrusted: bool,
}

impl Fault {
    /// From its `at`-th call on the disk does nothing any more, as when the process is killed.
    #[must_use]
    pub fn stop(at: u64) -> Self {
        Self { at, lasting: Lasting::FromThenOn, errno: Errno::IO }
    }
}

impl Default for MemoryDisk {
    fn default() -> Self {
        let world = World {
            names: BTreeMap::from([(PathBuf::from("/"), Node::Folder)]),
            durable: BTreeMap::new(),
            dirty: Vec::new(),
            operations: 0,
            fault: None,
        };
        Self { world: Arc::new(Mutex::new(world)) }
    }
}

impl MemoryDisk {
    /// How many calls there have been.
    #[must_use]
    pub fn operations(&self) -> u64 {
        self.world().operations
    }

    /// Arranges for calls to fail. An append that fails has written half its bytes.
    pub fn fail(&self, fault: Fault) {
        self.world().fault = Some(fault);
    }

    /// Lets every call succeed again.
    pub fn heal(&self) {
        self.world().fault = None;
    }

    /// Cuts the power and starts again: what was not synced survives by chance, from `seed`.
    /// Seed 0 is the cruellest: nothing unsynced survives.
    pub fn power_cut(&self, seed: u64) {
        let mut world = self.world();
        let mut random = fastrand::Rng::with_seed(seed);
        world.fault = None;
        world.dirty.clear();
        for (path, node) in std::mem::take(&mut world.durable) {
            if seed == 0 || random.bool() {
                world.put(path, node);
            }
        }
        for node in world.names.values() {
            if let Node::File(bytes) = node {
                let mut bytes = lock(bytes);
                let kept = if seed == 0 {
                    bytes.durable
                } else {
                    random.usize(bytes.durable..=bytes.all.len())
                };
                bytes.all.truncate(kept);
                *bytes =
                    Bytes { durable: kept, all: std::mem::take(&mut bytes.all), distrusted: false };
            }
        }
        world.drop_orphans();
    }

    /// Every file as a running system sees it.
    #[must_use]
    pub fn files(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let world = self.world();
        let files = world.names.iter().filter_map(|(path, node)| match node {
            Node::File(bytes) => Some((path.clone(), lock(bytes).all.clone())),
            Node::Folder => None,
        });
        files.collect()
    }

    fn world(&self) -> MutexGuard<'_, World> {
        lock(&self.world)
    }

    /// Counts a call, and fails it if that was arranged.
    fn begin(&self) -> io::Result<MutexGuard<'_, World>> {
        let mut world = self.world();
        world.step()?;
        Ok(world)
    }
}

impl Disk for MemoryDisk {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        let mut world = self.begin()?;
        world.add(path, Node::Folder)
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let mut world = self.begin()?;
        let bytes = Arc::new(Mutex::new(Bytes::default()));
        world.add(path, Node::File(Arc::clone(&bytes)))?;
        Ok(Box::new(MemoryFile { disk: self.clone(), bytes }))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn io::Read + Send>> {
        match self.begin()?.names.get(path) {
            Some(Node::File(bytes)) => Ok(Box::new(io::Cursor::new(lock(bytes).all.clone()))),
            Some(Node::Folder) => Err(Errno::ISDIR.into()),
            None => Err(Errno::NOENT.into()),
        }
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut world = self.begin()?;
        let Some(Node::File(bytes)) = world.names.get(from).cloned() else {
            return Err(Errno::NOENT.into());
        };
        if matches!(world.names.get(to), Some(Node::Folder)) {
            return Err(Errno::ISDIR.into());
        }
        world.in_folder(to)?;
        world.change(from, None);
        world.change(to, Some(Node::File(bytes)));
        Ok(())
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let mut world = self.begin()?;
        match world.names.get(path) {
            Some(Node::Folder) => {}
            Some(Node::File(_)) => return Err(Errno::NOTDIR.into()),
            None => return Err(Errno::NOENT.into()),
        }
        world.durable.retain(|changed, _| changed.parent() != Some(path));
        Ok(())
    }

    fn filesystem(&self, _path: &Path) -> io::Result<Box<dyn Filesystem>> {
        drop(self.begin()?);
        Ok(Box::new(MemoryFilesystem { disk: self.clone() }))
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        let mut world = self.begin()?;
        match world.names.get(path) {
            Some(Node::File(_)) => world.change(path, None),
            Some(Node::Folder) => return Err(Errno::ISDIR.into()),
            None => return Err(Errno::NOENT.into()),
        }
        Ok(())
    }

    fn list(&self, path: &Path) -> io::Result<Vec<PathBuf>> {
        let world = self.begin()?;
        if !matches!(world.names.get(path), Some(Node::Folder)) {
            return Err(Errno::NOENT.into());
        }
        let below = world.names.range(path.to_owned()..).map(|(found, _)| found);
        let below = below.take_while(|found| found.starts_with(path));
        let children = below.filter(|found| found.parent() == Some(path));
        Ok(children.filter_map(|found| found.file_name()).map(PathBuf::from).collect())
    }

    fn kind(&self, path: &Path) -> io::Result<Option<PathKind>> {
        Ok(self.begin()?.names.get(path).map(|node| match node {
            Node::Folder => PathKind::Folder,
            Node::File(bytes) => PathKind::File { bytes: lock(bytes).all.len() as u64 },
        }))
    }
}

#[derive(Debug)]
struct MemoryFile {
    disk: MemoryDisk,
    bytes: Arc<Mutex<Bytes>>,
}

impl DiskFile for MemoryFile {
    fn append(&mut self, new: &[u8]) -> io::Result<()> {
        let mut world = self.disk.world();
        world.note_dirty(&self.bytes);
        let outcome = world.step();
        let written = if outcome.is_ok() { new.len() } else { new.len() / 2 };
        lock(&self.bytes).all.extend_from_slice(&new[..written]);
        outcome
    }

    fn sync(&mut self) -> io::Result<()> {
        let outcome = self.disk.world().step();
        lock(&self.bytes).sync(outcome.is_ok());
        outcome
    }
}

#[derive(Debug)]
struct MemoryFilesystem {
    disk: MemoryDisk,
}

impl Filesystem for MemoryFilesystem {
    fn sync(&mut self) -> io::Result<()> {
        let mut world = self.disk.world();
        let outcome = world.step();
        for bytes in std::mem::take(&mut world.dirty).iter().filter_map(Weak::upgrade) {
            lock(&bytes).sync(outcome.is_ok());
        }
        if outcome.is_ok() {
            world.durable.clear();
        }
        outcome
    }
}

impl World {
    fn step(&mut self) -> io::Result<()> {
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

    fn in_folder(&self, path: &Path) -> io::Result<()> {
        match path.parent().and_then(|parent| self.names.get(parent)) {
            Some(Node::Folder) => Ok(()),
            Some(Node::File(_)) => Err(Errno::NOTDIR.into()),
            None => Err(Errno::NOENT.into()),
        }
    }

    fn add(&mut self, path: &Path, node: Node) -> io::Result<()> {
        if self.names.contains_key(path) {
            return Err(Errno::EXIST.into());
        }
        self.in_folder(path)?;
        self.change(path, Some(node));
        Ok(())
    }

    /// Changes a name, and remembers what it was when its folder was last synced.
    fn change(&mut self, path: &Path, node: Option<Node>) {
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
    fn note_dirty(&mut self, bytes: &Arc<Mutex<Bytes>>) {
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

    fn sync(&mut self, succeeded: bool) {
        if !succeeded && !self.is_synced() {
            self.distrusted = true;
        }
        if succeeded && !self.distrusted {
            self.durable = self.all.len();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
