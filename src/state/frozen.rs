//! Files of the first released format: each is read, and written again with nothing lost.
//!
//! A key that is added since is listed here, with its path.

use std::sync::Arc;

use super::*;
use crate::disk::{Disk, MemoryDisk, ensure_folder, write_atomic};
use crate::engine::{Status, Timestamp};

#[path = "../../tests/fixtures/frozen.rs"]
#[expect(clippy::duplicate_mod, reason = "the tests of each layer have it to themselves")]
mod fixture;

use self::fixture::assert_kept;

const EXECUTION_STATE_ADDED: &[&str] =
    &["copies", "incomplete_listings_in_a_row", "last_success", "listing_news", "versions"];
const FIGURES_ADDED: &[&str] = &[];
const BREAKERS_ADDED: &[&str] = &[];
const QUOTA_ADDED: &[&str] = &[];

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
    write_atomic(&disk, path, json.as_bytes()).unwrap();
    disk
}

#[test]
fn execution_states_of_the_first_format_are_kept() {
    let path = Path::new("/state").join(STATE_FILE);
    for (status, json) in EXECUTION_STATES {
        let disk = disk_with(&path, json);
        let Loaded::Read(state) = load(&disk, &path).unwrap() else { panic!("{status:?}") };
        assert_eq!(state.status, status);

        save(&disk, &path, &state).unwrap();

        assert_kept(json.as_bytes(), &disk.read(&path).unwrap(), EXECUTION_STATE_ADDED);
        let snapshot = ExecutionState::from_json(json).unwrap().to_json();
        assert_kept(json.as_bytes(), snapshot.as_bytes(), EXECUTION_STATE_ADDED);
    }
}

#[test]
fn figures_of_the_first_format_are_kept() {
    let json = include_str!("../../tests/fixtures/state-1/figures.json");
    let path = Path::new("/state").join(FIGURES_FILE);
    let disk = disk_with(&path, json);
    let figures = examine_figures(&disk, &path).read().unwrap();

    save_figures(&disk, &path, &figures, Timestamp(figures.written_at)).unwrap();

    assert_kept(json.as_bytes(), &disk.read(&path).unwrap(), FIGURES_ADDED);
}

#[test]
fn breakers_of_the_first_format_are_kept() {
    let json = include_str!("../../tests/fixtures/state-1/breakers.json");
    let path = Path::new("/state/breakers.json");
    let disk = disk_with(path, json);
    let file = BreakersFile::alone_on(Arc::new(disk.clone()), Path::new("/state"));

    let (count, note) = file.change(|breakers| breakers.len()).unwrap();

    assert_eq!((count, note), (5, None));
    assert_kept(json.as_bytes(), &disk.read(path).unwrap(), BREAKERS_ADDED);
}

#[test]
fn quotas_of_the_first_format_are_kept() {
    let json = include_str!("../../tests/fixtures/state-1/quota.json");

    let quotas = read_quotas(json.as_bytes()).unwrap();

    assert_eq!(quotas.scopes.len(), 3);
    assert_kept(json.as_bytes(), &quotas.into_json().unwrap(), QUOTA_ADDED);
}
