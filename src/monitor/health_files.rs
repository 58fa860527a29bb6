//! Health files that the monitor publishes: the last report, the alerts, and the degradation
//! history of a day.

use std::path::Path;

use cynosure_engine::alert::{AlertStore, Notification, Observation};
use cynosure_engine::health::degradation::{DegradationHistory, ProviderHealth};
use cynosure_engine::health::{HealthCheckReport, HostMetrics};
use cynosure_engine::{Failure, Timestamp};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tracing::warn;

use crate::disk::{Durability, JsonLayout, LockedFile, QuarantinedFile, VersionedFile};

/// Name of the file with the last report, in the state folder.
pub const HEALTH_FILE: &str = "health.json";

/// Name of the file with the alerts, in the state folder.
pub const ALERTS_FILE: &str = "alerts.json";

/// Schema version of `alerts.json` and `outbox.json`. Version 1 had other names for its keys.
pub(super) const ALERTS_SCHEMA: u64 = 2;

/// Schema version of the other files.
pub(super) const SCHEMA: u64 = 1;

/// Name of the file with the degradation scores of a day, in the state folder.
pub const DEGRADATION_FILE: &str = "degradation.json";

/// Result of the last health evaluation.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct HealthRecord {
    /// Absent before the first evaluation.
    pub report: Option<HealthCheckReport>,
    pub providers: Vec<ProviderHealth>,
    /// Metrics of the host; absent if it could not be measured.
    #[serde(default)]
    pub system: Option<HostMetrics>,
}

/// Access to the three files.
#[derive(Debug)]
pub struct HealthFiles {
    pub health: VersionedFile<HealthRecord>,
    pub alerts: VersionedFile<AlertStore>,
    pub degradation: VersionedFile<DegradationHistory>,
}

impl HealthFiles {
    /// Uses the files in a state folder of this machine.
    #[must_use]
    pub fn new(state_dir: &Path) -> Self {
        Self {
            health: single_line_file(LockedFile::new(state_dir.join(HEALTH_FILE)), SCHEMA),
            alerts: single_line_file(LockedFile::new(state_dir.join(ALERTS_FILE)), ALERTS_SCHEMA),
            degradation: single_line_file(
                LockedFile::new(state_dir.join(DEGRADATION_FILE)),
                SCHEMA,
            ),
        }
    }

    /// Writes the report and adds the scores to the degradation history.
    ///
    /// # Errors
    /// A storage failure.
    pub fn publish(
        &self,
        report: HealthCheckReport,
        providers: Vec<ProviderHealth>,
        system: Option<HostMetrics>,
        now: Timestamp,
    ) -> Result<(), Failure> {
        change(&self.degradation, Durability::Visible, |history| {
            history.record(&providers, now);
            Ok(())
        })?;
        let health = HealthRecord { report: Some(report), providers, system };
        change(&self.health, Durability::Visible, |content| {
            *content = health;
            Ok(())
        })
    }

    /// Updates the stored alerts from an observation, and passes new notifications to `enqueue`. If
    /// that fails, nothing is stored as notified.
    ///
    /// # Errors
    /// A storage failure, or that of `enqueue`.
    pub(super) fn update_alerts(
        &self,
        observation: &Observation,
        enqueue: impl FnOnce(&[Notification]) -> Result<(), Failure>,
        now: Timestamp,
    ) -> Result<Vec<Notification>, Failure> {
        change(&self.alerts, Durability::Durable, |alerts| {
            let notifications = alerts.evaluate(observation, now);
            // A duplicate notification after a power cut is better than a lost one.
            enqueue(&notifications)?;
            Ok(notifications)
        })
    }
}

/// Uses a file whose JSON is written as a single line.
pub(super) fn single_line_file<C>(file: LockedFile, schema: u64) -> VersionedFile<C>
where
    C: Default + DeserializeOwned + Serialize,
{
    VersionedFile::new(file, schema, JsonLayout::SingleLine)
}

/// Changes a file, and logs if it was unreadable and is quarantined.
///
/// # Errors
/// A storage failure, or that of `change`.
pub(super) fn change<C, T>(
    file: &VersionedFile<C>,
    durability: Durability,
    change: impl FnOnce(&mut C) -> Result<T, Failure>,
) -> Result<T, Failure>
where
    C: Default + DeserializeOwned + Serialize,
{
    let (result, quarantined) = file.update(durability, change)?;
    if let Some(QuarantinedFile { path: quarantine_path, reason }) = quarantined {
        let (path, quarantine_path) = (file.path().display(), quarantine_path.display());
        warn!(%path, %quarantine_path, reason, "unreadable file quarantined, starting with an empty one");
    }
    Ok(result)
}
