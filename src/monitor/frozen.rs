//! Files of the first released format: each is read, and written again with nothing lost.
//!
//! A key that is added since is listed here, with its path.

use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::*;
use crate::disk::Lasts;
use crate::engine::alert::{AlertStore, Outbox};
use crate::engine::degradation::DegradationHistory;

#[path = "../../tests/fixtures/frozen.rs"]
#[expect(clippy::duplicate_mod, reason = "the tests of each layer have it to themselves")]
mod fixture;

use self::fixture::assert_kept;

const HEALTH_ADDED: &[&str] = &[];
const ALERTS_ADDED: &[&str] = &[];
const DEGRADATION_ADDED: &[&str] = &[];
const OUTBOX_ADDED: &[&str] = &[];
const TRENDS_ADDED: &[&str] = &[];
const MONITOR_ADDED: &[&str] = &[];

/// Reads a file with what reads it in the monitor, and writes it again unchanged.
fn keep<C: Default + DeserializeOwned + Serialize>(
    name: &str,
    added: &[&str],
    looks_whole: impl FnOnce(&C) -> bool,
) {
    let home = tempfile::tempdir().unwrap();
    let (frozen, path) = copy(name, home.path());
    let mut is_whole = false;

    let kept = Kept::<C>::new(home.path(), name).change(Lasts::Process, |content| {
        is_whole = looks_whole(content);
        Ok(())
    });

    kept.unwrap();
    assert!(is_whole, "{name}");
    assert_kept(&frozen, &fs_err::read(path).unwrap(), added);
}

/// Puts a frozen file in its place below `home`.
fn copy(name: &str, home: &Path) -> (Vec<u8>, PathBuf) {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/state-1");
    let frozen = fs_err::read(fixtures.join(name)).unwrap();
    let path = home.join(name);
    fs_err::write(&path, &frozen).unwrap();
    (frozen, path)
}

#[test]
fn reports_of_health_of_the_first_format_are_kept() {
    let is_whole = |health: &Health| health.report.is_some() && !health.providers.is_empty();
    keep(HEALTH_FILE, HEALTH_ADDED, is_whole);
}

#[test]
fn alerts_of_the_first_format_are_kept() {
    keep(ALERTS_FILE, ALERTS_ADDED, |alerts: &AlertStore| *alerts != AlertStore::default());
}

#[test]
fn degradation_of_the_first_format_is_kept() {
    keep(DEGRADATION_FILE, DEGRADATION_ADDED, |history: &DegradationHistory| {
        *history != DegradationHistory::default()
    });
}

#[test]
fn an_outbox_of_the_first_format_is_kept() {
    keep(OUTBOX_FILE, OUTBOX_ADDED, |outbox: &Outbox| *outbox != Outbox::default());
}

#[test]
fn trends_of_the_first_format_are_kept() {
    let is_whole = |days: &Days| days.rates.len() == 4;
    keep(TRENDS_FILE, TRENDS_ADDED, is_whole);
}

#[test]
fn a_record_of_the_first_format_is_kept() {
    let home = tempfile::tempdir().unwrap();
    let (frozen, path) = copy(MONITOR_FILE, home.path());
    let mut restarts = 0;

    let file = RecordFile::new(home.path());
    file.change(|record| restarts = record.restarts.len()).unwrap();

    assert!(0 < restarts);
    assert_kept(&frozen, &fs_err::read(path).unwrap(), MONITOR_ADDED);
}
