//! `monitor.json`: the findings of the last cycle, and the restarts of all cycles so far.

use std::collections::BTreeSet;
use std::path::Path;

use cynosure_engine::health::{Finding, HealthLevel};
use cynosure_engine::{Failure, Timestamp};
use serde::{Deserialize, Serialize};

use crate::disk::{Durability, JsonLayout, LockedFile, VersionedFile};
use crate::monitor::health_files::SCHEMA;
use crate::monitor::unit_evaluation::UnitEvaluation;
use crate::state::serde_with;

/// File name, in the state folder.
pub const MONITOR_FILE: &str = "monitor.json";

/// Maximum number of restarts kept: the last days of a week with many restarts.
const RESTARTS_MAX: usize = 100;

/// Maximum number of restart counts kept per unit: more than the crash loop window has minutes.
const COUNTS_PER_UNIT_MAX: usize = 30;

/// Content of the file.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct MonitorRecord {
    /// Time of the last cycle; null before the first.
    #[serde(with = "serde_with::optional_timestamp")]
    #[serde(rename = "looked_at")]
    pub checked_at: Option<Timestamp>,
    /// Worst level of that cycle, such as `HEALTHY`.
    pub level: Option<String>,
    pub findings: Vec<FindingRecord>,
    /// Newest last.
    pub restarts: Vec<RestartRecord>,
    /// Recent restart counts of the units, as reported by systemd.
    #[serde(rename = "counts")]
    pub restart_counts: Vec<RestartCountSample>,
}

/// Finding in the form that other programs read.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct FindingRecord {
    pub level: String,
    /// Source or unit that the finding is about.
    #[serde(rename = "about")]
    pub subject: String,
    pub finding: String,
    pub message: String,
    #[serde(rename = "figure")]
    pub value: Option<String>,
    pub advice: Option<String>,
}

/// Restart request.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct RestartRecord {
    #[serde(with = "serde_with::timestamp")]
    pub at: Timestamp,
    pub unit: String,
    /// Finding that the restart was to fix.
    #[serde(rename = "why")]
    pub reason: String,
    pub outcome: RestartOutcome,
    /// Error, if the request was rejected.
    pub error: Option<String>,
}

/// Response of systemd to a restart request.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RestartOutcome {
    Accepted,
    #[serde(rename = "refused")]
    Rejected,
}

#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct RestartCountSample {
    #[serde(with = "serde_with::timestamp")]
    pub at: Timestamp,
    pub unit: String,
    pub restarts: u32,
}

/// Access to the file; changes exclude those of other processes.
#[derive(Debug)]
pub struct MonitorFile(VersionedFile<MonitorRecord>);

impl MonitorRecord {
    /// Records the findings of a cycle.
    pub(super) fn record_cycle(&mut self, units: &[UnitEvaluation], now: Timestamp) {
        self.checked_at = Some(now);
        self.level = Some(UnitEvaluation::worst_level(units).name().to_owned());
        self.findings = UnitEvaluation::all_findings(units).map(FindingRecord::from).collect();
    }

    pub(super) fn record_restart(&mut self, restart: RestartRecord) {
        self.restarts.push(restart);
        keep_last(&mut self.restarts, RESTARTS_MAX);
    }

    pub(super) fn record_restart_count(&mut self, count: RestartCountSample) {
        // Counts from the future were taken before the clock was set back, and cannot be compared.
        self.restart_counts.retain(|earlier| earlier.at <= count.at);
        self.restart_counts.push(count);
        let units: BTreeSet<&str> =
            self.restart_counts.iter().map(|count| count.unit.as_str()).collect();
        let count_max = COUNTS_PER_UNIT_MAX * units.len();
        keep_last(&mut self.restart_counts, count_max);
    }

    /// Returns the worst level; `None` if it is absent or unknown to this version.
    #[must_use]
    pub fn parse_level(&self) -> Option<HealthLevel> {
        HealthLevel::from_name(self.level.as_deref()?)
    }
}

impl From<&Finding> for FindingRecord {
    fn from(finding: &Finding) -> Self {
        Self {
            level: finding.level.name().to_owned(),
            subject: finding.subject.clone(),
            finding: finding.kind.clone(),
            message: finding.message.clone(),
            value: finding.value.clone(),
            advice: finding.advice.clone(),
        }
    }
}

impl MonitorFile {
    /// Uses the file in a state folder of this machine.
    #[must_use]
    pub fn new(state_dir: &Path) -> Self {
        let file = LockedFile::new(state_dir.join(MONITOR_FILE));
        Self(VersionedFile::new(file, SCHEMA, JsonLayout::Indented))
    }

    /// Reads the record and changes nothing. An unusable file reads as an empty record.
    ///
    /// # Errors
    /// A storage failure.
    pub fn read_or_default(&self) -> Result<MonitorRecord, Failure> {
        Ok(self.0.read()?.and_then(Result::ok).unwrap_or_default())
    }

    /// Changes the record. An unusable file is quarantined, and a new one is written.
    ///
    /// # Errors
    /// A storage failure.
    pub(super) fn change(&self, change: impl FnOnce(&mut MonitorRecord)) -> Result<(), Failure> {
        self.0.update(Durability::Visible, |record| {
            change(record);
            Ok(())
        })?;
        Ok(())
    }
}

fn keep_last<T>(list: &mut Vec<T>, count_max: usize) {
    list.drain(..list.len().saturating_sub(count_max));
}
