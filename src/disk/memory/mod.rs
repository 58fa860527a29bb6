//! A disk in memory that forgets what was not synced, and fails on request.
//!
//! A test double for the archive, the state file and the simulation. It keeps
//! apart what a running system sees and what would outlive a power cut: bytes up
//! to the last sync of their file, names up to the last sync of their folder.
//! It is as unkind as the contract of [`Disk`] allows:
//!
//! - after a power cut each unsynced name has changed or not, independently of
//!   the others, and each file has lost any tail of its unsynced bytes;
//! - a failed sync is told once to each who held the file or the filesystem before;
//!   then the file says `Ok` ever after, and is never durable.

mod world;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, Weak};

use rustix::io::Errno;

use self::world::{Bytes, Node, World, lock};
use crate::disk::{Disk, DiskFile, Filesystem, PathKind};

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

impl Fault {
    /// From its `at`-th call on the disk does nothing any more, as when the process is killed.
    #[must_use]
    pub fn stop(at: u64) -> Self {
        Self { at, lasting: Lasting::FromThenOn, errno: Errno::IO }
    }
}

impl Default for MemoryDisk {
    fn default() -> Self {
        Self { world: Arc::new(Mutex::new(World::new())) }
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
        self.world().power_cut(&mut fastrand::Rng::with_seed(seed), seed == 0);
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

    fn append_to(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let mut world = self.begin()?;
        let bytes = match world.names.get(path) {
            Some(Node::File(bytes)) => Arc::clone(bytes),
            Some(Node::Folder) => return Err(Errno::ISDIR.into()),
            None => {
                let bytes = Arc::new(Mutex::new(Bytes::default()));
                world.add(path, Node::File(Arc::clone(&bytes)))?;
                bytes
            }
        };
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
        let heard = self.begin()?.failed_syncs;
        Ok(Box::new(MemoryFilesystem { disk: self.clone(), heard }))
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
        let mut world = self.disk.world();
        let outcome = world.step();
        world.failed_syncs += u64::from(outcome.is_err());
        let mut bytes = lock(&self.bytes);
        bytes.sync(outcome.is_ok());
        let untold = std::mem::take(&mut bytes.is_failure_untold);
        outcome.and_then(|()| told(untold))
    }
}

#[derive(Debug)]
struct MemoryFilesystem {
    disk: MemoryDisk,
    /// The failed syncs that its holder knows of.
    heard: u64,
}

impl Filesystem for MemoryFilesystem {
    fn sync(&mut self) -> io::Result<()> {
        let mut world = self.disk.world();
        let outcome = world.step();
        for bytes in std::mem::take(&mut world.dirty).iter().filter_map(Weak::upgrade) {
            let mut bytes = lock(&bytes);
            bytes.sync(outcome.is_ok());
            bytes.is_failure_untold |= outcome.is_err() && bytes.distrusted;
        }
        match outcome {
            Ok(()) => world.durable.clear(),
            Err(_) => world.failed_syncs += 1,
        }
        let untold = std::mem::replace(&mut self.heard, world.failed_syncs) < world.failed_syncs;
        outcome.and_then(|()| told(untold))
    }
}

/// Tells of an earlier sync that failed.
fn told(untold: bool) -> io::Result<()> {
    if untold { Err(Errno::IO.into()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATH: &str = "/file";

    #[test]
    fn a_power_cut_takes_what_was_not_synced() {
        let disk = MemoryDisk::default();
        let mut file = disk.create(Path::new(PATH)).unwrap();
        disk.sync_dir(Path::new("/")).unwrap();
        file.append(b"kept").unwrap();
        file.sync().unwrap();
        file.append(b"lost").unwrap();
        disk.create(Path::new("/unnamed")).unwrap().sync().unwrap();

        disk.power_cut(0);

        assert_eq!(disk.files().into_iter().collect::<Vec<_>>(), [(PATH.into(), b"kept".into())]);
    }

    #[test]
    fn a_file_whose_sync_failed_is_never_durable_whatever_it_says() {
        let disk = MemoryDisk::default();
        let mut file = disk.create(Path::new(PATH)).unwrap();
        file.append(b"bytes").unwrap();
        let mut filesystem = disk.filesystem(Path::new("/")).unwrap();
        let mut another = disk.filesystem(Path::new("/")).unwrap();
        disk.fail(Fault { at: disk.operations(), lasting: Lasting::Once, errno: Errno::IO });

        assert!(filesystem.sync().is_err());
        assert!(file.sync().is_err() && another.sync().is_err(), "each is told once");
        file.sync().unwrap();
        filesystem.sync().unwrap();
        another.sync().unwrap();
        disk.filesystem(Path::new("/")).unwrap().sync().unwrap();
        disk.power_cut(0);

        assert_eq!(disk.read(Path::new(PATH)).unwrap(), b"");
    }
}
