//! Compatibility tests: each file of the first released format is read, and written back without
//! loss.
//!
//! Keys added since then are listed here by their paths.

use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::*;
use crate::disk::Durability;
use crate::engine::alert::{AlertStore, Outbox};
use crate::engine::degradation::DegradationHistory;

#[path = "../../tests/fixtures/frozen_format.rs"]
#[expect(clippy::duplicate_mod, reason = "the tests of each layer have it to themselves")]
mod fixture;

use self::fixture::assert_format_kept;

const HEALTH_ADDED: &[&str] = &[];
const ALERTS_ADDED: &[&str] = &[];
const DEGRADATION_ADDED: &[&str] = &[];
const OUTBOX_ADDED: &[&str] = &[];
const TRENDS_ADDED: &[&str] = &[];
const MONITOR_ADDED: &[&str] = &[];

/// Reads a file as the monitor does, and writes it back unchanged.
fn assert_round_trip<C: Default + DeserializeOwned + Serialize>(
    name: &str,
    added: &[&str],
    looks_whole: impl FnOnce(&C) -> bool,
) {
    let home = tempfile::tempdir().unwrap();
    let (frozen, path) = copy_fixture(name, home.path());
    let mut is_whole = false;

    let kept = VersionedFile::<C>::new(home.path(), name).change(Durability::Visible, |content| {
        is_whole = looks_whole(content);
        Ok(())
    });

    kept.unwrap();
    assert!(is_whole, "{name}");
    assert_format_kept(&frozen, &fs_err::read(path).unwrap(), added);
}

/// Copies a frozen file into `home`, and returns its content and new path.
fn copy_fixture(name: &str, home: &Path) -> (Vec<u8>, PathBuf) {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/state-1");
    let frozen = fs_err::read(fixtures.join(name)).unwrap();
    let path = home.join(name);
    fs_err::write(&path, &frozen).unwrap();
    (frozen, path)
}

#[test]
fn health_file_of_the_first_format_is_preserved() {
    let is_whole =
        |health: &HealthDocument| health.report.is_some() && !health.providers.is_empty();
    assert_round_trip(HEALTH_FILE, HEALTH_ADDED, is_whole);
}

#[test]
fn alerts_file_of_the_first_format_is_preserved() {
    assert_round_trip(ALERTS_FILE, ALERTS_ADDED, |alerts: &AlertStore| {
        *alerts != AlertStore::default()
    });
}

#[test]
fn degradation_file_of_the_first_format_is_preserved() {
    assert_round_trip(DEGRADATION_FILE, DEGRADATION_ADDED, |history: &DegradationHistory| {
        *history != DegradationHistory::default()
    });
}

#[test]
fn outbox_file_of_the_first_format_is_preserved() {
    assert_round_trip(OUTBOX_FILE, OUTBOX_ADDED, |outbox: &Outbox| *outbox != Outbox::default());
}

#[test]
fn trends_file_of_the_first_format_is_preserved() {
    let is_whole = |days: &DailySeries| days.rates.len() == 4;
    assert_round_trip(TRENDS_FILE, TRENDS_ADDED, is_whole);
}

#[test]
fn monitor_file_of_the_first_format_is_preserved() {
    let home = tempfile::tempdir().unwrap();
    let (frozen, path) = copy_fixture(MONITOR_FILE, home.path());
    let mut restarts = 0;

    let file = MonitorFile::new(home.path());
    file.change(|record| restarts = record.restarts.len()).unwrap();

    assert!(0 < restarts);
    assert_format_kept(&frozen, &fs_err::read(path).unwrap(), MONITOR_ADDED);
}
