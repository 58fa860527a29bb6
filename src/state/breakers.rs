//! `breakers.json`: states of all circuit breakers, shared by every process that uses the state
//! folder.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use cynosure_engine::Failure;
use cynosure_engine::breaker::PersistedBreaker;
use serde::{Deserialize, Serialize};

use crate::disk::{Disk, Durability, JsonLayout, LockedFile, QuarantinedFile, VersionedFile};

/// Name of the file in the state folder.
const BREAKERS_FILE: &str = "breakers.json";

/// Schema version that is read and written.
const SCHEMA: u64 = 1;

/// Persisted state of each circuit breaker, by its name.
pub type BreakerStates = BTreeMap<String, PersistedBreaker>;

/// File of the circuit breakers, changed under a lock that processes share.
#[derive(Debug)]
pub struct BreakersFile(VersionedFile<BreakersFileContent>);

#[derive(Default, Deserialize, Serialize)]
struct BreakersFileContent {
    breakers: BreakerStates,
}

impl BreakersFile {
    /// Returns the file in a state folder of this machine.
    #[must_use]
    pub fn new(state_dir: &Path) -> Self {
        Self::with_file(LockedFile::new(state_dir.join(BREAKERS_FILE)))
    }

    /// Returns the file on a simulated disk, which no other process sees.
    #[must_use]
    pub fn without_lock(disk: Arc<dyn Disk>, state_dir: &Path) -> Self {
        Self::with_file(LockedFile::without_lock(disk, state_dir.join(BREAKERS_FILE)))
    }

    fn with_file(file: LockedFile) -> Self {
        Self(VersionedFile::new(file, SCHEMA, JsonLayout::Indented))
    }

    #[must_use]
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// Reads the file and changes nothing; `Ok(Err(reason))` if its content cannot be read.
    ///
    /// # Errors
    /// A storage failure.
    pub fn read(&self) -> Result<Result<BreakerStates, String>, Failure> {
        Ok(self
            .0
            .read()?
            .unwrap_or_else(|| Ok(BreakersFileContent::default()))
            .map(|content| content.breakers))
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
        let change = |content: &mut BreakersFileContent| Ok(change(&mut content.breakers));
        let (result, quarantined) = self.0.update(Durability::Durable, change)?;
        let note = quarantined.map(|QuarantinedFile { path, reason }| {
            format!(
                "{} cannot be read ({reason}) and is kept as {}; every circuit breaker starts closed",
                self.path().display(),
                path.display()
            )
        });
        Ok((result, note))
    }
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
