//! `breakers.json`: what all breakers remember, shared by every process that uses the state folder.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::disk::{Disk, Lasts, SharedFile, Standing};
use crate::engine::breaker::PersistedBreaker;
use crate::engine::{Failure, sanitize_line};

/// The file, in the state folder.
const BREAKERS_FILE: &str = "breakers.json";

/// The version of the format that is read and written.
const SCHEMA: u64 = 1;

/// What each breaker remembers, by its name.
pub type Memories = BTreeMap<String, PersistedBreaker>;

/// The file, and the way to change it in turn with other processes.
#[derive(Debug)]
pub struct BreakersFile {
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
        Self { shared: SharedFile::new(state_dir.join(BREAKERS_FILE)) }
    }

    /// The file on a made-up disk, which no other process sees.
    #[must_use]
    pub fn alone_on(disk: Arc<dyn Disk>, state_dir: &Path) -> Self {
        Self { shared: SharedFile::alone_on(disk, state_dir.join(BREAKERS_FILE)) }
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
        Ok(self.shared.look(parse)?.unwrap_or_else(|| Ok(Memories::new())))
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
        self.shared.change(Lasts::PowerCut, parse, |standing| {
            let (mut memories, note) = match standing {
                Standing::Nothing => (Memories::new(), None),
                Standing::Content(memories) => (memories, None),
                Standing::PutAside { kept_as, why } => {
                    let (path, kept_as) = (self.path().display(), kept_as.display());
                    let note = format!(
                        "{path} cannot be read ({why}) and is kept as {kept_as}; every breaker begins closed"
                    );
                    (Memories::new(), Some(note))
                }
            };
            let told = change(&mut memories);
            (Some(write(memories)), (told, note))
        })
    }
}

fn parse(bytes: &[u8]) -> Result<Memories, String> {
    let wrong = |error: serde_json::Error| sanitize_line(&error.to_string());
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
    use crate::disk::{MemoryDisk, ensure_folder, write_atomic};

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
        let memory = PersistedBreaker { generation: 7, ..PersistedBreaker::default() };

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

        assert_eq!(found, Memories::from([("a".to_owned(), PersistedBreaker::default())]));
    }
}
