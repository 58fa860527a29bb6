//! Writes, reads and, where it is broken, puts aside the state file.

use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::disk::{Disk, PathKind, put_aside, storage_failure, write_atomic};
use crate::engine::{Failure, sanitize_line};
use crate::state::{ExecutionState, SCHEMA};

/// The largest state file that is read, in bytes: a hundred times what one has.
const FILE_BYTES_MAX: u64 = 256 * 1024;

/// What stands at the path of a state file.
#[derive(Clone, Debug, PartialEq)]
pub enum Found {
    /// Nothing.
    Absent,
    Read(Box<ExecutionState>),
    /// It is cut short, damaged, or no file.
    Unreadable {
        why: String,
    },
    /// A newer program wrote it.
    Newer {
        schema: u64,
    },
}

/// What a worker starts from.
#[derive(Clone, Debug, PartialEq)]
pub enum Loaded {
    /// There is none: the first start, or it was deleted.
    Fresh,
    Read(Box<ExecutionState>),
    /// It was put aside; the ledger has what was in it.
    Unreadable {
        kept_as: PathBuf,
        why: String,
    },
    /// Likewise.
    Newer {
        kept_as: PathBuf,
        schema: u64,
    },
}

/// The one key that every version has.
#[derive(Deserialize)]
struct Versioned {
    schema: u64,
}

/// Writes the state, durably and whole.
///
/// # Errors
/// A storage failure; the old file is then still there.
pub fn save(disk: &dyn Disk, path: &Path, state: &ExecutionState) -> Result<(), Failure> {
    let failed = |error| storage_failure("write", path, &error);
    let mut json = serde_json::to_vec_pretty(state).map_err(|error| failed(error.into()))?;
    json.push(b'\n');
    write_atomic(disk, path, &json).map_err(failed)
}

/// Reads the state file and changes nothing: for everyone but its worker.
///
/// # Errors
/// A storage failure.
pub fn examine(disk: &dyn Disk, path: &Path) -> Result<Found, Failure> {
    let failed = |error| storage_failure("read", path, &error);
    match disk.kind(path).map_err(failed)? {
        None => Ok(Found::Absent),
        Some(PathKind::File { bytes }) if bytes <= FILE_BYTES_MAX => {
            match disk.read(path) {
                Ok(bytes) => Ok(parse(&bytes)),
                // Replaced or removed since it was looked at.
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Found::Absent),
                Err(error) => Err(failed(error)),
            }
        }
        Some(PathKind::File { bytes }) => {
            Ok(Found::Unreadable { why: format!("it has {bytes} bytes, far too many") })
        }
        Some(PathKind::Folder | PathKind::Other) => {
            Ok(Found::Unreadable { why: "it is not a plain file".to_owned() })
        }
    }
}

/// Reads the state file; a broken or newer one is renamed, never deleted.
///
/// # Errors
/// A storage failure.
pub fn load(disk: &dyn Disk, path: &Path) -> Result<Loaded, Failure> {
    Ok(match examine(disk, path)? {
        Found::Absent => Loaded::Fresh,
        Found::Read(state) => Loaded::Read(state),
        Found::Unreadable { why } => Loaded::Unreadable { kept_as: put_aside(disk, path)?, why },
        Found::Newer { schema } => Loaded::Newer { kept_as: put_aside(disk, path)?, schema },
    })
}

fn parse(bytes: &[u8]) -> Found {
    let unreadable =
        |error: serde_json::Error| Found::Unreadable { why: sanitize_line(&error.to_string()) };
    match serde_json::from_slice::<Versioned>(bytes) {
        Err(error) => unreadable(error),
        Ok(Versioned { schema }) if schema > u64::from(SCHEMA) => Found::Newer { schema },
        Ok(Versioned { .. }) => match serde_json::from_slice(bytes) {
            Ok(state) => Found::Read(Box::new(state)),
            Err(error) => unreadable(error),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::{Fault, MemoryDisk};
    use crate::state::format::tests::example;

    const PATH: &str = "/execution_state.json";

    fn disk_with(bytes: &[u8]) -> MemoryDisk {
        let disk = MemoryDisk::default();
        write_atomic(&disk, Path::new(PATH), bytes).unwrap();
        disk
    }

    fn json() -> String {
        serde_json::to_string(&example()).unwrap()
    }

    #[test]
    fn what_is_saved_is_loaded() {
        let disk = MemoryDisk::default();
        assert_eq!(load(&disk, Path::new(PATH)).unwrap(), Loaded::Fresh);

        save(&disk, Path::new(PATH), &example()).unwrap();
        disk.power_cut(0);

        assert_eq!(load(&disk, Path::new(PATH)).unwrap(), Loaded::Read(Box::new(example())));
    }

    #[test]
    fn a_broken_file_is_put_aside_and_named() {
        let json = json();
        let half = &json.as_bytes()[..json.len() / 2];
        let many = [b' '; 300_000];
        for broken in [&b""[..], &[0; 500], b"{}", b"[]", half, b"{\"schema\":1}", &many] {
            let disk = disk_with(broken);
            write_atomic(&disk, Path::new("/execution_state.json.unreadable-1"), b"x").unwrap();

            let loaded = load(&disk, Path::new(PATH)).unwrap();

            let Loaded::Unreadable { kept_as, why } = loaded else { panic!("{loaded:?}") };
            assert_eq!(kept_as, Path::new("/execution_state.json.unreadable-2"), "{why}");
            assert_eq!(disk.read(&kept_as).unwrap(), broken);
            assert_eq!(load(&disk, Path::new(PATH)).unwrap(), Loaded::Fresh);
        }
    }

    #[test]
    fn a_newer_file_is_put_aside_whatever_it_says() {
        let disk = disk_with(br#"{"schema": 2, "status": "dreaming"}"#);

        let loaded = load(&disk, Path::new(PATH)).unwrap();

        assert!(matches!(loaded, Loaded::Newer { schema: 2, .. }), "{loaded:?}");
    }

    #[test]
    fn a_reader_moves_nothing() {
        let disk = disk_with(b"junk");

        let found = examine(&disk, Path::new(PATH)).unwrap();

        assert!(matches!(found, Found::Unreadable { .. }));
        assert_eq!(disk.read(Path::new(PATH)).unwrap(), b"junk");
    }

    #[test]
    fn unknown_keys_are_left_to_those_who_know_them() {
        let disk = disk_with(json().replacen('{', r#"{"mood": "fine","#, 1).as_bytes());

        let loaded = load(&disk, Path::new(PATH)).unwrap();

        assert_eq!(loaded, Loaded::Read(Box::new(example())));
    }

    #[test]
    fn a_disk_that_fails_says_what_and_where() {
        let disk = MemoryDisk::default();
        disk.fail(Fault::stop(0));

        let failure = save(&disk, Path::new(PATH), &example()).unwrap_err();

        assert!(failure.message.starts_with("cannot write /execution_state.json: "), "{failure}");
    }
}

#[cfg(test)]
mod laws {
    use proptest::prelude::*;

    use super::*;
    use crate::engine::Status;
    use crate::engine::{SessionId, Timestamp};
    use crate::state::LastError;
    use crate::state::format::tests::example;

    fn states() -> impl Strategy<Value = ExecutionState> {
        let moments = || (-62_167_219_200_000..=253_402_300_799_999_i64).prop_map(Timestamp);
        let optional = move || prop::option::of(moments());
        let status = || prop::sample::select(Status::ALL.to_vec());
        let times = (moments(), optional(), optional(), optional(), optional(), moments());
        let error = prop::option::of((any::<String>(), moments()));
        let words =
            (status(), prop::option::of(status()), any::<String>(), any::<Option<String>>());
        (times, error, words, any::<(u64, Option<u64>, bool)>()).prop_map(
            |(times, error, words, (count, total, rate_limited))| ExecutionState {
                state_since: times.0,
                until: times.1,
                start_time: times.2,
                completion_time: times.3,
                rate_limit_until: times.4,
                last_updated: times.5,
                last_error: error.map(|(message, at)| LastError {
                    kind: "LOCAL".to_owned(),
                    cause: "storage".to_owned(),
                    message,
                    at,
                }),
                status: words.0,
                resume_to: words.1,
                reason: words.2,
                session_id: words.3.map(SessionId::new),
                total_threads: count,
                expected_documents: total,
                rate_limited,
                ..example()
            },
        )
    }

    proptest! {
        #[test]
        fn every_state_is_read_back_as_it_was(state in states()) {
            let json = serde_json::to_vec_pretty(&state).unwrap();
            prop_assert_eq!(parse(&json), Found::Read(Box::new(state)));
        }

        #[test]
        fn no_part_of_a_state_is_taken_for_a_whole_one(cut in any::<prop::sample::Index>()) {
            let json = serde_json::to_vec_pretty(&example()).unwrap();
            let cut = cut.index(json.len());
            let is_unreadable = matches!(parse(&json[..cut]), Found::Unreadable { .. });
            prop_assert!(is_unreadable);
        }

        #[test]
        fn any_bytes_are_read_without_harm(bytes in any::<Vec<u8>>()) {
            drop(parse(&bytes));
        }
    }
}
