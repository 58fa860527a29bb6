//! `restarts.json`: restart counts of sources and units, shared by all processes that request
//! restarts.

use std::collections::BTreeMap;
use std::path::Path;

use cynosure_engine::{Failure, RestartBudget, RestartPermit, Timestamp};
use serde::{Deserialize, Serialize};

use crate::disk::{Durability, JsonLayout, LockedFile, VersionedFile};

/// File name, in the state folder.
pub const RESTARTS_FILE: &str = "restarts.json";

/// Schema version that is read and written.
const SCHEMA: u64 = 1;

/// Access to the file; changes exclude those of other processes.
#[derive(Debug)]
pub struct RestartBudgetFile(VersionedFile<RestartsFileContent>);

#[derive(Default, Deserialize, Serialize)]
struct RestartsFileContent {
    restarts: BTreeMap<String, RestartBudget>,
}

impl RestartBudgetFile {
    /// Uses the file in a state folder of this machine.
    #[must_use]
    pub fn new(state_dir: &Path) -> Self {
        let file = LockedFile::new(state_dir.join(RESTARTS_FILE));
        Self(VersionedFile::new(file, SCHEMA, JsonLayout::Indented))
    }

    /// Counts one more restart of `name`, a source or a unit, and returns when it may happen. An
    /// unreadable file is quarantined, and counting starts again from zero.
    ///
    /// # Errors
    /// A storage failure.
    pub fn request_restart(
        &self,
        name: &str,
        last_progress: Timestamp,
        now: Timestamp,
    ) -> Result<RestartPermit, Failure> {
        let (permit, _quarantined) = self.0.update(Durability::Durable, |content| {
            let budget = content.restarts.entry(name.to_owned()).or_default();
            Ok(budget.request_restart(last_progress, now))
        })?;
        Ok(permit)
    }

    #[must_use]
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// Reads the counts and changes nothing; `Ok(Err(reason))` if the file is unreadable.
    ///
    /// # Errors
    /// A storage failure.
    pub fn read(&self) -> Result<Result<BTreeMap<String, RestartBudget>, String>, Failure> {
        Ok(self
            .0
            .read()?
            .unwrap_or_else(|| Ok(RestartsFileContent::default()))
            .map(|content| content.restarts))
    }

    /// Reads the counts and changes nothing; empty without a readable file. An unreadable file is
    /// quarantined by [`request_restart`](Self::request_restart).
    ///
    /// # Errors
    /// A storage failure.
    pub fn read_or_default(&self) -> Result<BTreeMap<String, RestartBudget>, Failure> {
        Ok(self.read()?.unwrap_or_default())
    }
}

#[cfg(test)]
#[path = "../../tests/fixtures/frozen_format.rs"]
#[expect(clippy::duplicate_mod, reason = "the tests of each layer have it to themselves")]
mod fixture;

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_700_000_000_000);

    /// Paths of the JSON keys added since the first released format.
    const ADDED_KEYS: &[&str] = &[];

    #[test]
    fn restarts_of_the_first_format_are_preserved() {
        let json = include_bytes!("../../tests/fixtures/state-1/restarts.json");
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join(RESTARTS_FILE);
        fs_err::write(&path, json).unwrap();
        let RestartBudgetFile(file) = RestartBudgetFile::new(home.path());

        let count = |content: &mut RestartsFileContent| {
            Ok(content.restarts["cynosure.service"].consecutive_restarts)
        };
        assert_eq!(file.update(Durability::Durable, count).unwrap(), (3, None));

        fixture::assert_format_kept(json, &fs_err::read(path).unwrap(), ADDED_KEYS);
    }

    #[test]
    fn the_count_is_persisted_per_name() {
        let home = tempfile::tempdir().unwrap();
        let request = |name| {
            RestartBudgetFile::new(home.path()).request_restart(name, Timestamp(0), NOW).unwrap()
        };

        assert_eq!(request("cynosure.service").not_before, NOW);
        assert_eq!(request("cynosure.service").not_before.since(NOW).as_secs(), 10);
        assert_eq!(request("work").not_before, NOW);
        let counts = RestartBudgetFile::new(home.path()).read_or_default().unwrap();
        assert_eq!(counts["cynosure.service"].consecutive_restarts, 2);
    }

    #[test]
    fn an_unreadable_file_does_not_delay_a_restart() {
        let home = tempfile::tempdir().unwrap();
        fs_err::write(home.path().join(RESTARTS_FILE), "rot").unwrap();
        let file = RestartBudgetFile::new(home.path());

        assert!(file.read_or_default().unwrap().is_empty());
        assert_eq!(file.read().unwrap(), Err("expected value at line 1 column 1".to_owned()));
        assert_eq!(
            file.request_restart("work", Timestamp(0), NOW).unwrap().consecutive_restarts,
            1
        );
    }
}
