//! `breakers.json`: what all breakers remember, shared by every process that uses the state folder.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::disk::{Disk, Lasts, PathKind, RealDisk, SharedFile, ensure_folder, storage_failure};
use crate::engine::breaker::Memory;
use crate::engine::{Failure, printable};

/// The file, in the state folder.
pub const BREAKERS_FILE: &str = "breakers.json";

/// The version of the format that is read and written.
const SCHEMA: u64 = 1;

/// The largest file that is read, in bytes: what a hundred providers with long stories need.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Broken files that are kept aside before a person has to look.
const KEPT_MAX: u32 = 1000;

/// What each breaker remembers, by its name.
pub type Memories = BTreeMap<String, Memory>;

/// The file, and the way to change it in turn with other processes.
#[derive(Debug)]
pub struct BreakersFile {
    disk: Arc<dyn Disk>,
    folder: PathBuf,
    shared: SharedFile,
}

#[derive(Deserialize, Serialize)]
struct Format {
    schema: u64,
    breakers: Memories,
}

/// The one key that every version has.
#[derive(Deserialize)]
struct Versioned {
    schema: u64,
}

impl BreakersFile {
    /// The file in a state folder of this machine.
    #[must_use]
    pub fn new(state_dir: &Path) -> Self {
        let shared = SharedFile::new(state_dir.join(BREAKERS_FILE));
        Self { disk: Arc::new(RealDisk), folder: state_dir.to_owned(), shared }
    }

    /// The file on a made-up disk, which no other process sees.
    #[must_use]
    pub fn alone_on(disk: Arc<dyn Disk>, state_dir: &Path) -> Self {
        let shared = SharedFile::alone_on(Arc::clone(&disk), state_dir.join(BREAKERS_FILE));
        Self { disk, folder: state_dir.to_owned(), shared }
    }

    #[must_use]
    pub fn path(&self) -> &Path {
        self.shared.path()
    }

    /// Reads the file and changes nothing; `Ok(Err(why))` where it does not say anything readable.
    ///
    /// # Errors
    /// A storage failure.
    pub fn examine(&self) -> Result<Result<Memories, String>, Failure> {
        if let Some(why) = self.misfit()? {
            return Ok(Err(why));
        }
        Ok(self.shared.read()?.map_or_else(|| Ok(Memories::new()), |bytes| parse(&bytes)))
    }

    /// Changes the file while nobody else does. Returns what `change` returned, and what a person
    /// should know: a file that cannot be read is kept aside, and a new one begun.
    ///
    /// # Errors
    /// A storage failure.
    pub fn change<T>(
        &self,
        change: impl FnOnce(&mut Memories) -> T,
    ) -> Result<(T, Option<String>), Failure> {
        let failed = |error| storage_failure("make the folder", &self.folder, &error);
        if self.disk.kind(&self.folder).map_err(failed)?.is_none() {
            ensure_folder(&*self.disk, &self.folder).map_err(failed)?;
        }
        let aside = self.misfit()?.map(|why| self.put_aside(&why));
        let (told, note) = self.shared.change(Lasts::PowerCut, |old| {
            let (mut memories, note) = match old.as_deref().map(parse) {
                None => (Memories::new(), None),
                Some(Ok(memories)) => (memories, None),
                Some(Err(why)) => (Memories::new(), Some(self.put_aside(&why))),
            };
            let told = change(&mut memories);
            (write(memories), (told, note))
        })?;
        Ok((told, aside.or(note)))
    }

    /// Why what stands there is not even looked into.
    fn misfit(&self) -> Result<Option<String>, Failure> {
        let path = self.path();
        let kind = self.disk.kind(path).map_err(|error| storage_failure("read", path, &error))?;
        Ok(match kind {
            None => None,
            Some(PathKind::File { bytes }) if bytes <= FILE_BYTES_MAX => None,
            Some(PathKind::File { bytes }) => Some(format!("it has {bytes} bytes, far too many")),
            Some(PathKind::Folder | PathKind::Other) => Some("it is not a plain file".to_owned()),
        })
    }

    /// Renames what cannot be read, so that a person can look into it; says so.
    fn put_aside(&self, why: &str) -> String {
        let path = self.path();
        for number in 1..=KEPT_MAX {
            let mut name = path.as_os_str().to_owned();
            name.push(format!(".unreadable-{number}"));
            let kept_as = PathBuf::from(name);
            if !matches!(self.disk.kind(&kept_as), Ok(None)) {
                continue;
            }
            return match self.disk.rename(path, &kept_as) {
                Ok(()) => format!(
                    "{} cannot be read ({why}) and is kept as {}; every breaker begins closed",
                    path.display(),
                    kept_as.display()
                ),
                Err(error) => format!(
                    "{} cannot be read ({why}) nor put aside ({error}); it is written anew",
                    path.display()
                ),
            };
        }
        format!("{} cannot be read ({why}), again; look into the ones kept aside", path.display())
    }
}

fn parse(bytes: &[u8]) -> Result<Memories, String> {
    let wrong = |error: serde_json::Error| printable(&error.to_string());
    let Versioned { schema } = serde_json::from_slice(bytes).map_err(wrong)?;
    if schema > SCHEMA {
        return Err(format!("a newer cynosure wrote it: schema {schema}, this one knows {SCHEMA}"));
    }
    let Format { breakers, .. } = serde_json::from_slice(bytes).map_err(wrong)?;
    Ok(breakers)
}

fn write(breakers: Memories) -> Vec<u8> {
    // Nothing in it can fail to be written: its keys are texts, and it has no fractions.
    let format = Format { schema: SCHEMA, breakers };
    let mut json = serde_json::to_vec_pretty(&format).unwrap_or_default();
    json.push(b'\n');
    json
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::{MemoryDisk, write_atomic};

    const PATH: &str = "/state/breakers.json";

    fn file(disk: &MemoryDisk) -> BreakersFile {
        BreakersFile::alone_on(Arc::new(disk.clone()), Path::new("/state"))
    }

    fn disk_with(bytes: &[u8]) -> MemoryDisk {
        let disk = MemoryDisk::default();
        ensure_folder(&disk, Path::new("/state")).unwrap();
        write_atomic(&disk, Path::new(PATH), bytes).unwrap();
        disk
    }

    #[test]
    fn what_is_changed_is_read_back_after_a_power_cut() {
        let disk = MemoryDisk::default();
        assert_eq!(file(&disk).examine().unwrap(), Ok(Memories::new()));
        let memory = Memory { generation: 7, ..Memory::default() };

        let insert = |all: &mut Memories| all.insert("example".to_owned(), memory.clone());
        assert_eq!(file(&disk).change(insert).unwrap(), (None, None));
        disk.power_cut(0);

        let found = file(&disk).examine().unwrap().unwrap();
        assert_eq!(found, Memories::from([("example".to_owned(), memory)]));
    }

    #[test]
    fn what_cannot_be_read_is_kept_aside_and_named() {
        let many = [b' '; 1_100_000];
        for broken in [&b""[..], b"{}", b"junk", b"{\"schema\": 2}", b"{\"schema\": 1}", &many] {
            let disk = disk_with(broken);
            assert!(file(&disk).examine().unwrap().is_err());
            assert_eq!(disk.read(Path::new(PATH)).unwrap(), broken, "a reader moves nothing");

            let (count, note) = file(&disk).change(|all| all.len()).unwrap();

            assert_eq!(count, 0);
            let note = note.unwrap();
            assert!(note.contains("kept as /state/breakers.json.unreadable-1"), "{note}");
            assert_eq!(disk.files()[Path::new("/state/breakers.json.unreadable-1")], broken);
            assert_eq!(file(&disk).examine().unwrap(), Ok(Memories::new()));
        }
    }

    #[test]
    fn keys_that_are_not_known_do_no_harm() {
        let disk = disk_with(br#"{"schema":1,"mood":"fine","breakers":{"a":{"colour":"red"}}}"#);

        let found = file(&disk).examine().unwrap().unwrap();

        assert_eq!(found, Memories::from([("a".to_owned(), Memory::default())]));
    }
}
