//! `trends.json`: the rate of each source and the remaining requests of each rate limiter, over the
//! last day.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use cynosure_engine::time_series::{Aggregation, TimeSeries};
use cynosure_engine::{Failure, Timestamp};
use serde::{Deserialize, Serialize};

use crate::disk::{Durability, LockedFile, VersionedFile};
use crate::monitor::health_files::{SCHEMA, change, single_line_file};

/// File name, in the state folder.
pub const TRENDS_FILE: &str = "trends.json";

/// Duration of one value: a day has 144 steps of ten minutes.
pub const TREND_STEP: Duration = Duration::from_secs(600);
pub const TREND_STEPS_PER_DAY: usize = 144;

/// Maximum number of series of each kind, so that the file stays within the size limit for reading.
pub const TREND_SERIES_MAX: usize = 256;

/// Values measured at one moment, by name.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TrendSamples {
    /// Items per second of each source.
    pub rates: BTreeMap<String, f32>,
    /// Remaining requests of each rate limiter.
    pub rate_limits: BTreeMap<String, f32>,
}

/// Time series of the last day.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct TrendSeries {
    #[serde(default)]
    pub rates: BTreeMap<String, TimeSeries>,
    #[serde(default)]
    #[serde(rename = "quotas")]
    pub rate_limits: BTreeMap<String, TimeSeries>,
}

/// Access to the file.
#[derive(Debug)]
pub struct TrendsFile {
    file: VersionedFile<TrendSeries>,
}

impl TrendsFile {
    /// Uses the file in a state folder of this machine.
    #[must_use]
    pub fn new(state_dir: &Path) -> Self {
        Self { file: single_line_file(LockedFile::new(state_dir.join(TRENDS_FILE)), SCHEMA) }
    }

    /// Reads the series, which are empty if there is no file yet.
    ///
    /// # Errors
    /// One sentence with the reason, if the file cannot be read.
    pub fn read_or_default(&self) -> Result<TrendSeries, String> {
        self.file.read_or_default()
    }

    /// Adds samples, and drops series whose last sample is more than a day old.
    ///
    /// # Errors
    /// A storage failure.
    pub fn record(&self, samples: &TrendSamples, now: Timestamp) -> Result<(), Failure> {
        let new_series = || TimeSeries::new(TREND_STEP, TREND_STEPS_PER_DAY);
        change(&self.file, Durability::Visible, |series| {
            add_samples(&mut series.rates, &samples.rates, new_series, now);
            add_samples(&mut series.rate_limits, &samples.rate_limits, new_series, now);
            Ok(())
        })
    }
}

/// Adds samples to their series and creates missing series. Drops series of another shape, and
/// those whose last sample is older than the duration they cover.
pub fn add_samples(
    all_series: &mut BTreeMap<String, TimeSeries>,
    samples: &BTreeMap<String, f32>,
    new_series: impl Fn() -> TimeSeries,
    now: Timestamp,
) {
    let template = new_series();
    all_series.retain(|_, series| {
        series.has_same_shape(&template)
            && now.since(series.last_recorded_at()) < series.covered_duration()
    });
    for (name, value) in samples {
        if all_series.len() < TREND_SERIES_MAX || all_series.contains_key(name) {
            let series = all_series.entry(name.clone()).or_insert_with(&new_series);
            series.record(*value, Aggregation::Mean, now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_700_000_000_000);

    fn samples_of(count: usize) -> TrendSamples {
        let samples =
            |prefix: &str| (0..count).map(|index| (format!("{prefix}-{index}"), 123.456)).collect();
        TrendSamples {
            rates: samples("a-source-with-a-name"),
            rate_limits: samples("a-limiter-of-a-host"),
        }
    }

    #[test]
    fn a_day_with_too_many_series_is_still_readable() {
        let home = tempfile::tempdir().unwrap();
        let file = TrendsFile::new(home.path());
        for step in 0..150 {
            file.record(&samples_of(300), NOW.after(TREND_STEP * step)).unwrap();
        }

        let series = file.read_or_default().unwrap();

        assert_eq!(
            (series.rates.len(), series.rate_limits.len()),
            (TREND_SERIES_MAX, TREND_SERIES_MAX)
        );
        let values =
            series.rates["a-source-with-a-name-0"].values_until(NOW.after(TREND_STEP * 149));
        assert!(values.iter().all(Option::is_some), "{values:?}");
    }

    #[test]
    fn series_a_day_old_or_of_another_step_are_dropped() {
        let mut all_series = BTreeMap::from([("odd".to_owned(), TimeSeries::new(TREND_STEP, 7))]);
        let new_series = || TimeSeries::new(TREND_STEP, TREND_STEPS_PER_DAY);
        let one = |name: &str| BTreeMap::from([(name.to_owned(), 1.0)]);
        add_samples(&mut all_series, &one("old"), new_series, NOW);
        add_samples(&mut all_series, &one("new"), new_series, NOW.after(TREND_STEP * 143));
        assert_eq!(all_series.keys().collect::<Vec<_>>(), ["new", "old"]);

        add_samples(&mut all_series, &one("new"), new_series, NOW.after(TREND_STEP * 145));

        assert_eq!(all_series.keys().collect::<Vec<_>>(), ["new"]);
    }

    #[test]
    fn a_truncated_file_is_reported_and_recreated() {
        let home = tempfile::tempdir().unwrap();
        let file = TrendsFile::new(home.path());
        fs_err::write(home.path().join(TRENDS_FILE), "{\"schema\":1,\"rates\":{").unwrap();
        let reason = file.read_or_default().unwrap_err();
        assert!(reason.contains("trends.json cannot be read: EOF"), "{reason}");

        file.record(&samples_of(1), NOW).unwrap();

        assert_eq!(file.read_or_default().unwrap().rates.len(), 1);
    }
}
