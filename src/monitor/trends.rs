//! `trends.json`: how fast each source was, and what was left of each quota, over the last day.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::disk::Lasts;
use crate::engine::time_series::{Aggregation, TimeSeries};
use crate::engine::{Failure, Timestamp};
use crate::monitor::kept::Kept;

/// The file, in the state folder.
pub const TRENDS_FILE: &str = "trends.json";

/// The time of one value, and how many there are: a day in steps of ten minutes.
pub const DAY_STEP: Duration = Duration::from_secs(600);
pub const DAY_STEPS: usize = 144;

/// Names of each kind that are kept, so that all of it stays within what is read of a file.
pub const NAMES_MAX: usize = 256;

/// What is measured at one moment, by name.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Measured {
    /// Items per second of each source.
    pub rates: BTreeMap<String, f32>,
    /// Requests that are left of each quota.
    pub quotas: BTreeMap<String, f32>,
}

/// The last day of all that was measured.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Days {
    #[serde(default)]
    pub rates: BTreeMap<String, TimeSeries>,
    #[serde(default)]
    pub quotas: BTreeMap<String, TimeSeries>,
}

/// The file, and the way to add to it.
#[derive(Debug)]
pub struct TrendsFile {
    kept: Kept<Days>,
}

impl TrendsFile {
    /// The file in a state folder of this machine.
    #[must_use]
    pub fn new(state_dir: &Path) -> Self {
        Self { kept: Kept::new(state_dir, TRENDS_FILE) }
    }

    /// Reads what it says, which is nothing where there is none yet.
    ///
    /// # Errors
    /// Why that is not known, in a sentence.
    pub fn told(&self) -> Result<Days, String> {
        self.kept.told()
    }

    /// Adds what was measured, and forgets what was last measured more than a day ago.
    ///
    /// # Errors
    /// A storage failure.
    pub fn note(&self, measured: &Measured, now: Timestamp) -> Result<(), Failure> {
        let fresh = || TimeSeries::new(DAY_STEP, DAY_STEPS);
        self.kept.change(Lasts::Process, |days| {
            add(&mut days.rates, &measured.rates, fresh, now);
            add(&mut days.quotas, &measured.quotas, fresh, now);
            Ok(())
        })
    }
}

/// Adds figures to their series, begins those there are none of yet, and drops what is too old to be seen.
pub fn add(
    all: &mut BTreeMap<String, TimeSeries>,
    figures: &BTreeMap<String, f32>,
    fresh: impl Fn() -> TimeSeries,
    now: Timestamp,
) {
    let pattern = fresh();
    all.retain(|_, series| {
        series.has_same_shape(&pattern)
            && now.since(series.last_recorded_at()) < series.covered_duration()
    });
    for (name, figure) in figures {
        if all.len() < NAMES_MAX || all.contains_key(name) {
            let series = all.entry(name.clone()).or_insert_with(&fresh);
            series.record(*figure, Aggregation::Mean, now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_700_000_000_000);

    fn measured(names: usize) -> Measured {
        let figures = |kind: &str| (0..names).map(|at| (format!("{kind}-{at}"), 123.456)).collect();
        Measured { rates: figures("a-source-with-a-name"), quotas: figures("a-quota-of-a-host") }
    }

    #[test]
    fn a_day_of_more_names_than_are_kept_is_still_read() {
        let home = tempfile::tempdir().unwrap();
        let file = TrendsFile::new(home.path());
        for step in 0..150 {
            file.note(&measured(300), NOW.after(DAY_STEP * step)).unwrap();
        }

        let days = file.told().unwrap();

        assert_eq!((days.rates.len(), days.quotas.len()), (NAMES_MAX, NAMES_MAX));
        let values = days.rates["a-source-with-a-name-0"].samples_until(NOW.after(DAY_STEP * 149));
        assert!(values.iter().all(Option::is_some), "{values:?}");
    }

    #[test]
    fn what_is_a_day_old_or_of_another_shape_is_forgotten() {
        let mut all = BTreeMap::from([("odd".to_owned(), TimeSeries::new(DAY_STEP, 7))]);
        let fresh = || TimeSeries::new(DAY_STEP, DAY_STEPS);
        let one = |name: &str| BTreeMap::from([(name.to_owned(), 1.0)]);
        add(&mut all, &one("old"), fresh, NOW);
        add(&mut all, &one("new"), fresh, NOW.after(DAY_STEP * 143));
        assert_eq!(all.keys().collect::<Vec<_>>(), ["new", "old"]);

        add(&mut all, &one("new"), fresh, NOW.after(DAY_STEP * 145));

        assert_eq!(all.keys().collect::<Vec<_>>(), ["new"]);
    }

    #[test]
    fn a_file_that_is_cut_short_is_told_and_begun_anew() {
        let home = tempfile::tempdir().unwrap();
        let file = TrendsFile::new(home.path());
        fs_err::write(home.path().join(TRENDS_FILE), "{\"schema\":1,\"rates\":{").unwrap();
        let why = file.told().unwrap_err();
        assert!(why.contains("trends.json cannot be read: EOF"), "{why}");

        file.note(&measured(1), NOW).unwrap();

        assert_eq!(file.told().unwrap().rates.len(), 1);
    }
}
