//! Paths in the state folder, and the state of each source as other processes than its worker read
//! it. Nothing here changes a file.

use std::fmt;
use std::path::{Path, PathBuf};

use cynosure_engine::Failure;
use cynosure_engine::health::watch::ProcessStatus;

use crate::disk::{FileLock, LockedFile, RealDisk, process_exists};
use crate::state::{
    BreakersFile, ExecutionState, LEDGER_FILE, LIMITERS_FILE, LOCK_FILE, LimiterStates,
    METRICS_FILE, MetricsFile, SCHEMA, STATE_FILE, StateFile, parse_limiters, read_metrics,
    read_state_file,
};

/// State folder of this machine.
#[derive(Clone, Debug)]
pub struct StateFolder(PathBuf);

/// Folder of one source in the state folder. It does not exist before the first run.
#[derive(Clone, Debug)]
pub struct SourceFolder(PathBuf);

/// State of a source, as its files show it.
#[derive(Clone, Debug, PartialEq)]
pub enum SourceState {
    /// There is neither a state file nor a ledger.
    NeverRun,
    /// State that the worker wrote last, and the process of the worker.
    Read(Box<ExecutionState>, ProcessStatus),
    Unreadable(StateFileProblem),
}

/// Reason why there is no state of a source that has a state file or a ledger.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum StateFileProblem {
    /// There is only a ledger: the state file was deleted, or no start has succeeded yet.
    Missing,
    /// The file is truncated, damaged, or not a plain file.
    Damaged { reason: String },
    /// A newer version of the program wrote the file.
    Newer { schema: u64 },
    /// The disk failed.
    Storage(Failure),
}

impl StateFolder {
    #[must_use]
    pub fn new(path: &Path) -> Self {
        Self(path.to_owned())
    }

    #[must_use]
    pub fn source(&self, name: &str) -> SourceFolder {
        SourceFolder(self.0.join(name))
    }

    #[must_use]
    pub fn breakers_file(&self) -> BreakersFile {
        BreakersFile::new(&self.0)
    }

    #[must_use]
    pub fn limiters_file(&self) -> LockedFile {
        LockedFile::new(self.0.join(LIMITERS_FILE))
    }

    /// Reads the states of the rate limiters. Invalid content yields none, because the worker logs
    /// it.
    ///
    /// # Errors
    /// A storage failure.
    pub fn read_limiters(&self) -> Result<LimiterStates, Failure> {
        Ok(self.limiters_file().read(parse_limiters)?.and_then(Result::ok).unwrap_or_default())
    }
}

impl SourceFolder {
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Returns the file in which the worker publishes the state of the source.
    #[must_use]
    pub fn state_file(&self) -> PathBuf {
        self.0.join(STATE_FILE)
    }

    #[must_use]
    pub fn metrics_file(&self) -> PathBuf {
        self.0.join(METRICS_FILE)
    }

    #[must_use]
    pub fn ledger_file(&self) -> PathBuf {
        self.0.join(LEDGER_FILE)
    }

    /// Returns the file that a running worker keeps locked.
    #[must_use]
    pub fn lock_file(&self) -> PathBuf {
        self.0.join(LOCK_FILE)
    }

    /// True if the source has a state file or a ledger.
    #[must_use]
    pub fn has_progress(&self) -> bool {
        self.state_file().exists() || self.ledger_file().exists()
    }

    #[must_use]
    pub fn read_state(&self) -> SourceState {
        SourceState::Unreadable(match read_state_file(&RealDisk, &self.state_file()) {
            Ok(StateFile::Read(state)) => {
                let process = self.worker_process(state.pid);
                return SourceState::Read(state, process);
            }
            Ok(StateFile::Absent) if self.ledger_file().exists() => StateFileProblem::Missing,
            Ok(StateFile::Absent) => return SourceState::NeverRun,
            Ok(StateFile::Unreadable { reason }) => StateFileProblem::Damaged { reason },
            Ok(StateFile::Newer { schema }) => StateFileProblem::Newer { schema },
            Err(failure) => StateFileProblem::Storage(failure),
        })
    }

    #[must_use]
    pub fn read_metrics(&self) -> MetricsFile {
        read_metrics(&RealDisk, &self.metrics_file())
    }

    /// Returns the process of the worker: the holder of the lock, else the one in the state file. A
    /// worker whose disk is full holds the lock and cannot write the state file.
    fn worker_process(&self, recorded_pid: Option<u32>) -> ProcessStatus {
        match FileLock::holder_pid(&self.lock_file()).or(recorded_pid) {
            None => ProcessStatus::Exited,
            Some(pid) if process_exists(pid) => ProcessStatus::Running { pid },
            Some(pid) => ProcessStatus::Died { pid },
        }
    }
}

impl SourceState {
    /// Returns the state that the worker wrote last, if it can be read.
    #[must_use]
    pub fn execution_state(&self) -> Option<&ExecutionState> {
        match self {
            Self::Read(state, _) => Some(state),
            Self::NeverRun | Self::Unreadable(_) => None,
        }
    }

    /// True if the state can be read and its worker runs.
    #[must_use]
    pub fn is_running(&self) -> bool {
        matches!(self, Self::Read(_, ProcessStatus::Running { .. }))
    }
}

impl StateFileProblem {
    /// Returns the problem and its remedy, in one sentence.
    #[must_use]
    pub fn with_remedy(&self) -> String {
        match self {
            Self::Missing | Self::Damaged { .. } => {
                format!("{self}; the next run rebuilds it from the ledger")
            }
            Self::Newer { .. } => format!("{self}; use that version"),
            Self::Storage(_) => self.to_string(),
        }
    }
}

impl fmt::Display for StateFileProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("its state file is missing"),
            Self::Damaged { reason } => write!(f, "its state file cannot be read ({reason})"),
            Self::Newer { schema } => write!(
                f,
                "a newer cynosure wrote its state file (schema {schema}, this one knows {SCHEMA})"
            ),
            Self::Storage(failure) => f.write_str(&failure.message),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::format::tests::example_state;
    use crate::state::save_state_file;

    fn folder_with_state(home: &Path, pid: Option<u32>) -> SourceFolder {
        let folder = StateFolder::new(home).source("work");
        fs_err::create_dir(folder.path()).unwrap();
        let state = ExecutionState { pid, ..example_state() };
        save_state_file(&RealDisk, &folder.state_file(), &state).unwrap();
        folder
    }

    fn process(folder: &SourceFolder) -> ProcessStatus {
        let SourceState::Read(_, process) = folder.read_state() else { panic!("it is readable") };
        process
    }

    #[test]
    fn an_unreadable_state_has_a_reason_and_a_remedy() {
        let home = tempfile::tempdir().unwrap();
        let folder = folder_with_state(home.path(), None);
        let problem = || {
            let state = folder.read_state();
            let SourceState::Unreadable(problem) = state else { panic!("{state:?}") };
            problem.with_remedy()
        };

        fs_err::write(folder.state_file(), "{").unwrap();
        let damaged = problem();
        fs_err::write(folder.state_file(), "{\"schema\": 9}").unwrap();
        let newer = problem();
        fs_err::remove_file(folder.state_file()).unwrap();
        assert_eq!(folder.read_state(), SourceState::NeverRun);
        fs_err::write(folder.ledger_file(), "").unwrap();
        let lines = [damaged, newer, problem()];

        insta::assert_snapshot!(lines.join("\n"), @r"
        its state file cannot be read (EOF while parsing an object at line 1 column 1); the next run rebuilds it from the ledger
        a newer cynosure wrote its state file (schema 9, this one knows 1); use that version
        its state file is missing; the next run rebuilds it from the ledger
        ");
    }

    #[test]
    fn a_recorded_process_runs_has_exited_or_died() {
        let (own_pid, dead_pid) = (std::process::id(), u32::MAX);
        for (recorded, expected) in [
            (None, ProcessStatus::Exited),
            (Some(own_pid), ProcessStatus::Running { pid: own_pid }),
            (Some(dead_pid), ProcessStatus::Died { pid: dead_pid }),
        ] {
            let home = tempfile::tempdir().unwrap();
            assert_eq!(process(&folder_with_state(home.path(), recorded)), expected);
        }
    }

    #[test]
    fn the_holder_of_the_lock_is_the_worker() {
        let home = tempfile::tempdir().unwrap();
        let folder = folder_with_state(home.path(), Some(u32::MAX));
        let _lock = FileLock::acquire(&folder.lock_file()).unwrap();

        assert_eq!(process(&folder), ProcessStatus::Running { pid: std::process::id() });
    }
}
