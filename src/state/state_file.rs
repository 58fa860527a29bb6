//! Writes and reads the state file, and quarantines a broken one.
//!
//! It is not a [`VersionedFile`](crate::disk::VersionedFile): only the worker of the source writes
//! it, so it has no lock, and its schema number belongs to the state, which the ledger stores too.
//! Readers also distinguish a newer file from a damaged one.

use std::path::{Path, PathBuf};

use cynosure_engine::{Failure, sanitize_line};
use serde::Deserialize;

use crate::disk::{Disk, quarantine_file, read_small_file, storage_failure, write_durable};
use crate::state::{ExecutionState, SCHEMA};

/// Largest state file that is read, in bytes: a hundred times the usual size.
const FILE_BYTES_MAX: u64 = 256 * 1024;

/// Result of reading a state file.
#[derive(Clone, Debug, PartialEq)]
pub enum StateFile {
    /// There is no file.
    Absent,
    Read(Box<ExecutionState>),
    /// The file is truncated, damaged, or not a plain file.
    Unreadable {
        reason: String,
    },
    /// A newer version of the program wrote the file.
    Newer {
        schema: u64,
    },
}

/// State that a worker starts from.
#[derive(Clone, Debug, PartialEq)]
pub enum LoadedState {
    /// There is no file: the first start, or it was deleted.
    Fresh,
    Read(Box<ExecutionState>),
    /// The file was quarantined; its content is also in the ledger.
    Unreadable {
        quarantine_path: PathBuf,
        reason: String,
    },
    /// A newer version of the program wrote the file, which was quarantined; its content is also in
    /// the ledger.
    Newer {
        quarantine_path: PathBuf,
        schema: u64,
    },
}

/// Header of the file: the one key that every version has.
#[derive(Deserialize)]
struct StateFileHeader {
    schema: u64,
}

/// Writes the state durably and atomically.
///
/// # Errors
/// A storage failure; the old file is then still there.
pub fn save_state_file(
    disk: &dyn Disk,
    path: &Path,
    state: &ExecutionState,
) -> Result<(), Failure> {
    let to_failure = |error| storage_failure("write", path, &error);
    let mut json = serde_json::to_vec_pretty(state).map_err(|error| to_failure(error.into()))?;
    json.push(b'\n');
    write_durable(disk, path, &json).map_err(to_failure)
}

/// Reads the state file and changes nothing. For all processes except the worker of the source.
///
/// # Errors
/// A storage failure.
pub fn read_state_file(disk: &dyn Disk, path: &Path) -> Result<StateFile, Failure> {
    let content = read_small_file(disk, path, FILE_BYTES_MAX)
        .map_err(|error| storage_failure("read", path, &error))?;
    Ok(match content {
        None => StateFile::Absent,
        Some(Ok(bytes)) => parse(&bytes),
        Some(Err(reason)) => StateFile::Unreadable { reason },
    })
}

/// Reads the state file; a broken or newer one is renamed, never deleted.
///
/// # Errors
/// A storage failure.
pub fn load_state_file(disk: &dyn Disk, path: &Path) -> Result<LoadedState, Failure> {
    Ok(match read_state_file(disk, path)? {
        StateFile::Absent => LoadedState::Fresh,
        StateFile::Read(state) => LoadedState::Read(state),
        StateFile::Unreadable { reason } => {
            LoadedState::Unreadable { quarantine_path: quarantine_file(disk, path)?, reason }
        }
        StateFile::Newer { schema } => {
            LoadedState::Newer { quarantine_path: quarantine_file(disk, path)?, schema }
        }
    })
}

fn parse(bytes: &[u8]) -> StateFile {
    let unreadable = |error: serde_json::Error| StateFile::Unreadable {
        reason: sanitize_line(&error.to_string()),
    };
    match serde_json::from_slice::<StateFileHeader>(bytes) {
        Err(error) => unreadable(error),
        Ok(StateFileHeader { schema }) if schema > u64::from(SCHEMA) => StateFile::Newer { schema },
        Ok(StateFileHeader { .. }) => match serde_json::from_slice(bytes) {
            Ok(state) => StateFile::Read(Box::new(state)),
            Err(error) => unreadable(error),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::{DiskFault, MemoryDisk};
    use crate::state::format::tests::example_state;

    const PATH: &str = "/execution_state.json";

    fn disk_with(bytes: &[u8]) -> MemoryDisk {
        let disk = MemoryDisk::default();
        write_durable(&disk, Path::new(PATH), bytes).unwrap();
        disk
    }

    fn state_json() -> String {
        serde_json::to_string(&example_state()).unwrap()
    }

    #[test]
    fn a_saved_state_is_loaded() {
        let disk = MemoryDisk::default();
        assert_eq!(load_state_file(&disk, Path::new(PATH)).unwrap(), LoadedState::Fresh);

        save_state_file(&disk, Path::new(PATH), &example_state()).unwrap();
        disk.power_cut(0);

        assert_eq!(
            load_state_file(&disk, Path::new(PATH)).unwrap(),
            LoadedState::Read(Box::new(example_state()))
        );
    }

    #[test]
    fn an_unreadable_file_is_quarantined_and_reported() {
        let json = state_json();
        let half = &json.as_bytes()[..json.len() / 2];
        let oversized = [b' '; 300_000];
        for broken in [&b""[..], &[0; 500], b"{}", b"[]", half, b"{\"schema\":1}", &oversized] {
            let disk = disk_with(broken);
            write_durable(&disk, Path::new("/execution_state.json.unreadable-1"), b"x").unwrap();

            let loaded = load_state_file(&disk, Path::new(PATH)).unwrap();

            let LoadedState::Unreadable { quarantine_path, reason } = loaded else {
                panic!("{loaded:?}")
            };
            assert_eq!(
                quarantine_path,
                Path::new("/execution_state.json.unreadable-2"),
                "{reason}"
            );
            assert_eq!(disk.read_file(&quarantine_path).unwrap(), broken);
            assert_eq!(load_state_file(&disk, Path::new(PATH)).unwrap(), LoadedState::Fresh);
        }
    }

    #[test]
    fn a_newer_file_is_quarantined() {
        let disk = disk_with(br#"{"schema": 2, "status": "dreaming"}"#);

        let loaded = load_state_file(&disk, Path::new(PATH)).unwrap();

        assert!(matches!(loaded, LoadedState::Newer { schema: 2, .. }), "{loaded:?}");
    }

    #[test]
    fn reading_changes_nothing() {
        let disk = disk_with(b"junk");

        let found = read_state_file(&disk, Path::new(PATH)).unwrap();

        assert!(matches!(found, StateFile::Unreadable { .. }));
        assert_eq!(disk.read_file(Path::new(PATH)).unwrap(), b"junk");
    }

    #[test]
    fn unknown_keys_are_ignored() {
        let disk = disk_with(state_json().replacen('{', r#"{"mood": "fine","#, 1).as_bytes());

        let loaded = load_state_file(&disk, Path::new(PATH)).unwrap();

        assert_eq!(loaded, LoadedState::Read(Box::new(example_state())));
    }

    #[test]
    fn a_storage_failure_names_action_and_path() {
        let disk = MemoryDisk::default();
        disk.set_fault(DiskFault::stop_at(0));

        let failure = save_state_file(&disk, Path::new(PATH), &example_state()).unwrap_err();

        assert!(failure.message.starts_with("cannot write /execution_state.json: "), "{failure}");
    }
}

#[cfg(test)]
mod proptests {
    use proptest::prelude::*;

    use super::*;
    use crate::state::RecordedError;
    use crate::state::format::tests::example_state;
    use cynosure_engine::{SessionId, Status, Timestamp};

    fn any_state() -> impl Strategy<Value = ExecutionState> {
        let timestamps = || (-62_167_219_200_000..=253_402_300_799_999_i64).prop_map(Timestamp);
        let optional = move || prop::option::of(timestamps());
        let status = || prop::sample::select(Status::ALL.to_vec());
        let times = (timestamps(), optional(), optional(), optional(), optional(), timestamps());
        let error = prop::option::of((any::<String>(), timestamps()));
        let texts =
            (status(), prop::option::of(status()), any::<String>(), any::<Option<String>>());
        (times, error, texts, any::<(u64, Option<u64>, bool)>()).prop_map(
            |(times, error, texts, (count, total, rate_limited))| ExecutionState {
                state_since: times.0,
                state_until: times.1,
                start_time: times.2,
                completion_time: times.3,
                rate_limit_until: times.4,
                last_updated: times.5,
                last_error: error.map(|(message, at)| RecordedError {
                    cause_family: "LOCAL".to_owned(),
                    cause: "storage".to_owned(),
                    message,
                    at,
                }),
                status: texts.0,
                resume_state: texts.1,
                reason: texts.2,
                session_id: texts.3.map(SessionId::new),
                total_threads: count,
                expected_documents: total,
                is_rate_limited: rate_limited,
                ..example_state()
            },
        )
    }

    proptest! {
        #[test]
        fn every_state_round_trips(state in any_state()) {
            let json = serde_json::to_vec_pretty(&state).unwrap();
            prop_assert_eq!(parse(&json), StateFile::Read(Box::new(state)));
        }

        #[test]
        fn a_truncated_state_is_unreadable(cut in any::<prop::sample::Index>()) {
            let json = serde_json::to_vec_pretty(&example_state()).unwrap();
            let cut = cut.index(json.len());
            let is_unreadable = matches!(parse(&json[..cut]), StateFile::Unreadable { .. });
            prop_assert!(is_unreadable);
        }

        #[test]
        fn reading_any_bytes_never_panics(bytes in any::<Vec<u8>>()) {
            drop(parse(&bytes));
        }
    }
}
