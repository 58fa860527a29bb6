//! `breakers.json`: states of all circuit breakers, shared by every process that uses the state
//! folder.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::disk::{Disk, Durability, LockedFile, PreviousContent};
use crate::engine::breaker::PersistedBreaker;
use crate::engine::{Failure, sanitize_line};

/// Name of the file in the state folder.
const BREAKERS_FILE: &str = "breakers.json";

/// Schema version that is read and written.
const SCHEMA: u64 = 1;

/// Persisted state of each circuit breaker, by its name.
pub type BreakerStates = BTreeMap<String, PersistedBreaker>;

/// File of the circuit breakers, changed under a lock that processes share.
#[derive(Debug)]
pub struct BreakersFile {
    file: LockedFile,
}

#[derive(Deserialize, Serialize)]
struct BreakersFileContent {
    schema: u64,
    breakers: BreakerStates,
}

/// Header of the file: the one key that every version has.
#[derive(Deserialize)]
struct BreakersFileHeader {
    schema: u64,
}

impl BreakersFile {
    /// Returns the file in a state folder of this machine.
    #[must_use]
    pub fn new(state_dir: &Path) -> Self {
        Self { file: LockedFile::new(state_dir.join(BREAKERS_FILE)) }
    }

    /// Returns the file on a simulated disk, which no other process sees.
    #[must_use]
    pub fn without_lock(disk: Arc<dyn Disk>, state_dir: &Path) -> Self {
        Self { file: LockedFile::without_lock(disk, state_dir.join(BREAKERS_FILE)) }
    }

    #[must_use]
    pub fn path(&self) -> &Path {
        self.file.path()
    }

    /// Reads the file and changes nothing; `Ok(Err(reason))` if its content cannot be read.
    ///
    /// # Errors
    /// A storage failure.
    pub fn read(&self) -> Result<Result<BreakerStates, String>, Failure> {
        Ok(self.file.read(parse)?.unwrap_or_else(|| Ok(BreakerStates::new())))
    }

    /// Changes the file under its lock. Returns the result of `change`, and a note for the operator
    /// if the file could not be read: it is then quarantined, and a new one is started.
    ///
    /// # Errors
    /// A storage failure.
    pub fn update<T>(
        &self,
        change: impl FnOnce(&mut BreakerStates) -> T,
    ) -> Result<(T, Option<String>), Failure> {
        self.file.update(Durability::Durable, parse, |previous| {
            let (mut states, note) = match previous {
                PreviousContent::Absent => (BreakerStates::new(), None),
                PreviousContent::Valid(states) => (states, None),
                PreviousContent::Quarantined { quarantine_path, reason } => {
                    let note = format!(
                        "{} cannot be read ({reason}) and is kept as {}; every circuit breaker starts closed",
                        self.path().display(),
                        quarantine_path.display()
                    );
                    (BreakerStates::new(), Some(note))
                }
            };
            let result = change(&mut states);
            (Some(to_json(states)), (result, note))
        })
    }
}

fn parse(bytes: &[u8]) -> Result<BreakerStates, String> {
    let to_reason = |error: serde_json::Error| sanitize_line(&error.to_string());
    let BreakersFileHeader { schema } = serde_json::from_slice(bytes).map_err(to_reason)?;
    if schema > SCHEMA {
        return Err(format!("a newer cynosure wrote it: schema {schema}, this one knows {SCHEMA}"));
    }
    let BreakersFileContent { breakers, .. } = serde_json::from_slice(bytes).map_err(to_reason)?;
    Ok(breakers)
}

fn to_json(breakers: BreakerStates) -> Vec<u8> {
    // Serialization cannot fail: all keys are strings, and there are no fractions.
    let content = BreakersFileContent { schema: SCHEMA, breakers };
    let mut json = serde_json::to_vec_pretty(&content).unwrap_or_default();
    json.push(b'\n');
    json
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::{MemoryDisk, ensure_folder, write_durable};

    const PATH: &str = "/state/breakers.json";

    fn breakers_file(disk: &MemoryDisk) -> BreakersFile {
        BreakersFile::without_lock(Arc::new(disk.clone()), Path::new("/state"))
    }

    fn disk_with(bytes: &[u8]) -> MemoryDisk {
        let disk = MemoryDisk::default();
        ensure_folder(&disk, Path::new("/state")).unwrap();
        write_durable(&disk, Path::new(PATH), bytes).unwrap();
        disk
    }

    #[test]
    fn an_update_survives_a_power_cut() {
        let disk = MemoryDisk::default();
        assert_eq!(breakers_file(&disk).read().unwrap(), Ok(BreakerStates::new()));
        let breaker = PersistedBreaker { generation: 7, ..PersistedBreaker::default() };

        let insert = |all: &mut BreakerStates| all.insert("example".to_owned(), breaker.clone());
        assert_eq!(breakers_file(&disk).update(insert).unwrap(), (None, None));
        disk.power_cut(0);

        let found = breakers_file(&disk).read().unwrap().unwrap();
        assert_eq!(found, BreakerStates::from([("example".to_owned(), breaker)]));
    }

    #[test]
    fn an_unreadable_file_is_quarantined_and_reported() {
        let oversized = [b' '; 1_100_000];
        for broken in [&b""[..], b"{}", b"junk", b"{\"schema\": 2}", b"{\"schema\": 1}", &oversized]
        {
            let disk = disk_with(broken);
            assert!(breakers_file(&disk).read().unwrap().is_err());
            assert_eq!(disk.read_file(Path::new(PATH)).unwrap(), broken, "a reader moves nothing");

            let (count, note) = breakers_file(&disk).update(|all| all.len()).unwrap();

            assert_eq!(count, 0);
            let note = note.unwrap();
            assert!(note.contains("kept as /state/breakers.json.unreadable-1"), "{note}");
            assert_eq!(disk.files()[Path::new("/state/breakers.json.unreadable-1")], broken);
            assert_eq!(breakers_file(&disk).read().unwrap(), Ok(BreakerStates::new()));
        }
    }

    #[test]
    fn unknown_keys_are_ignored() {
        let disk = disk_with(br#"{"schema":1,"mood":"fine","breakers":{"a":{"colour":"red"}}}"#);

        let found = breakers_file(&disk).read().unwrap().unwrap();

        assert_eq!(found, BreakerStates::from([("a".to_owned(), PersistedBreaker::default())]));
    }
}
