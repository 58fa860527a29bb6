//! Compatibility tests: files of the first released format are read and written again without loss.
//!
//! Keys added since then are listed here by their paths.

use std::path::Path;
use std::sync::Arc;

use cynosure_engine::{Status, Timestamp};

use super::*;
use crate::disk::{Disk, MemoryDisk, ensure_folder, write_durable};

#[path = "../../tests/fixtures/frozen_format.rs"]
#[expect(clippy::duplicate_mod, reason = "the tests of each layer have it to themselves")]
mod fixture;

use self::fixture::assert_format_kept;

const EXECUTION_STATE_ADDED_KEYS: &[&str] = &[
    "archive_bytes",
    "archive_documents",
    "complete_until",
    "copies",
    "expected_bytes",
    "fetched_bytes",
    "incomplete_listings_in_a_row",
    "last_success",
    "listed_until",
    "listing_news",
    "versions",
];
const METRICS_ADDED_KEYS: &[&str] = &[];
const BREAKERS_ADDED_KEYS: &[&str] = &[];
const LIMITERS_ADDED_KEYS: &[&str] = &[];

/// One of each status.
const EXECUTION_STATES: [(Status, &str); 7] = [
    (Status::Idle, include_str!("../../tests/fixtures/state-1/execution_state-idle.json")),
    (
        Status::Collecting,
        include_str!("../../tests/fixtures/state-1/execution_state-collecting.json"),
    ),
    (
        Status::Downloading,
        include_str!("../../tests/fixtures/state-1/execution_state-downloading.json"),
    ),
    (
        Status::Completed,
        include_str!("../../tests/fixtures/state-1/execution_state-completed.json"),
    ),
    (Status::Error, include_str!("../../tests/fixtures/state-1/execution_state-error.json")),
    (
        Status::RateLimited,
        include_str!("../../tests/fixtures/state-1/execution_state-rate_limited.json"),
    ),
    (
        Status::AuthFailed,
        include_str!("../../tests/fixtures/state-1/execution_state-auth_failed.json"),
    ),
];

fn disk_with(path: &Path, json: &str) -> MemoryDisk {
    let disk = MemoryDisk::default();
    ensure_folder(&disk, Path::new("/state")).unwrap();
    write_durable(&disk, path, json.as_bytes()).unwrap();
    disk
}

#[test]
fn execution_states_of_the_first_format_round_trip() {
    let path = Path::new("/state").join(STATE_FILE);
    for (status, json) in EXECUTION_STATES {
        let disk = disk_with(&path, json);
        let LoadedState::Read(state) = load_state_file(&disk, &path).unwrap() else {
            panic!("{status:?}")
        };
        assert_eq!(state.status, status);

        save_state_file(&disk, &path, &state).unwrap();

        assert_format_kept(
            json.as_bytes(),
            &disk.read_file(&path).unwrap(),
            EXECUTION_STATE_ADDED_KEYS,
        );
        let snapshot = ExecutionState::from_json(json).unwrap().to_json();
        assert_format_kept(json.as_bytes(), snapshot.as_bytes(), EXECUTION_STATE_ADDED_KEYS);
    }
}

#[test]
fn metrics_of_the_first_format_round_trip() {
    let json = include_str!("../../tests/fixtures/state-1/figures.json");
    let path = Path::new("/state").join(METRICS_FILE);
    let disk = disk_with(&path, json);
    let metrics = read_metrics(&disk, &path).into_metrics().unwrap();

    save_metrics(&disk, &path, &metrics, Timestamp(metrics.written_at)).unwrap();

    assert_format_kept(json.as_bytes(), &disk.read_file(&path).unwrap(), METRICS_ADDED_KEYS);
}

#[test]
fn breakers_of_the_first_format_round_trip() {
    let json = include_str!("../../tests/fixtures/state-1/breakers.json");
    let path = Path::new("/state/breakers.json");
    let disk = disk_with(path, json);
    let file = BreakersFile::without_lock(Arc::new(disk.clone()), Path::new("/state"));

    let (count, note) = file.update(|breakers| breakers.len()).unwrap();

    assert_eq!((count, note), (5, None));
    assert_format_kept(json.as_bytes(), &disk.read_file(path).unwrap(), BREAKERS_ADDED_KEYS);
}

#[test]
fn limiters_of_the_first_format_round_trip() {
    let json = include_str!("../../tests/fixtures/state-1/quota.json");

    let limiters = parse_limiters(json.as_bytes()).unwrap();

    assert_eq!(limiters.scopes.len(), 3);
    assert_format_kept(json.as_bytes(), &limiters.into_json().unwrap(), LIMITERS_ADDED_KEYS);
}
