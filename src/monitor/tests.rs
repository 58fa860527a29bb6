//! Compatibility tests: each file of an earlier format is read, and written back without loss.
//!
//! Keys added since then are listed here by their paths.

use std::path::{Path, PathBuf};

use cynosure_engine::alert::{AlertStore, Outbox};
use cynosure_engine::health::degradation::DegradationHistory;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::*;
use crate::disk::{Durability, LockedFile};
use crate::monitor::health_files::{ALERTS_SCHEMA, SCHEMA, single_line_file};

#[path = "../../tests/fixtures/frozen_format.rs"]
#[expect(clippy::duplicate_mod, reason = "the tests of each layer have it to themselves")]
mod fixture;

use self::fixture::assert_format_kept;

const HEALTH_ADDED_KEYS: &[&str] = &[];
const ALERTS_ADDED_KEYS: &[&str] = &[];
const DEGRADATION_ADDED_KEYS: &[&str] = &[];
const OUTBOX_ADDED_KEYS: &[&str] = &[];
const TRENDS_ADDED_KEYS: &[&str] = &[];
const MONITOR_ADDED_KEYS: &[&str] = &[];

/// Reads a file as the monitor does, and writes it back unchanged. Returns the written content.
fn rewrite<C: Default + DeserializeOwned + Serialize>(
    (frozen, name, schema): (&Path, &str, u64),
    is_complete: impl FnOnce(&C) -> bool,
) -> Vec<u8> {
    let home = tempfile::tempdir().unwrap();
    fs_err::copy(frozen.join(name), home.path().join(name)).unwrap();
    let file = single_line_file::<C>(LockedFile::new(home.path().join(name)), schema);

    let update = file.update(Durability::Visible, |content| Ok(is_complete(content)));

    assert_eq!(update.unwrap(), (true, None), "{name}");
    fs_err::read(home.path().join(name)).unwrap()
}

/// Checks that a file of the first format, which is still written, is preserved.
fn assert_round_trip<C: Default + DeserializeOwned + Serialize>(
    name: &str,
    added_keys: &[&str],
    is_complete: impl FnOnce(&C) -> bool,
) {
    let written = rewrite((&fixtures(1), name, SCHEMA), is_complete);
    assert_format_kept(&fs_err::read(fixtures(1).join(name)).unwrap(), &written, added_keys);
}

/// Checks that a file of the first or second format becomes one of the second without loss.
fn assert_upgrade<C: Default + DeserializeOwned + PartialEq + Serialize>(
    name: &str,
    added_keys: &[&str],
) {
    let second = fs_err::read(fixtures(2).join(name)).unwrap();
    for version in [1, 2] {
        let file = (&*fixtures(version), name, ALERTS_SCHEMA);
        let written = rewrite(file, |content: &C| *content != C::default());
        assert_format_kept(&second, &written, added_keys);
    }
}

/// Returns the folder with the frozen files of a schema version.
fn fixtures(version: u64) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/fixtures/state-{version}"))
}

#[test]
fn health_file_of_the_first_format_is_preserved() {
    let is_complete =
        |health: &HealthRecord| health.report.is_some() && !health.providers.is_empty();
    assert_round_trip(HEALTH_FILE, HEALTH_ADDED_KEYS, is_complete);
}

#[test]
fn alerts_file_of_the_first_format_is_upgraded() {
    assert_upgrade::<AlertStore>(ALERTS_FILE, ALERTS_ADDED_KEYS);
}

#[test]
fn degradation_file_of_the_first_format_is_preserved() {
    assert_round_trip(DEGRADATION_FILE, DEGRADATION_ADDED_KEYS, |history: &DegradationHistory| {
        *history != DegradationHistory::default()
    });
}

#[test]
fn outbox_file_of_the_first_format_is_upgraded() {
    assert_upgrade::<Outbox>(OUTBOX_FILE, OUTBOX_ADDED_KEYS);
}

#[test]
fn trends_file_of_the_first_format_is_preserved() {
    let is_complete = |series: &TrendSeries| series.rates.len() == 4;
    assert_round_trip(TRENDS_FILE, TRENDS_ADDED_KEYS, is_complete);
}

#[test]
fn monitor_file_of_the_first_format_is_preserved() {
    let home = tempfile::tempdir().unwrap();
    let frozen = fs_err::read(fixtures(1).join(MONITOR_FILE)).unwrap();
    let path = home.path().join(MONITOR_FILE);
    fs_err::write(&path, &frozen).unwrap();
    let mut restarts = 0;

    let file = MonitorFile::new(home.path());
    file.change(|record| restarts = record.restarts.len()).unwrap();

    assert!(0 < restarts);
    assert_format_kept(&frozen, &fs_err::read(path).unwrap(), MONITOR_ADDED_KEYS);
}
