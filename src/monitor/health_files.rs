//! What the monitor publishes of health: the last report, the alerts, and a day of degradation.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::disk::Durability;
use crate::engine::alert::{AlertStore, Notification, Observation};
use crate::engine::degradation::{DegradationHistory, ProviderHealth};
use crate::engine::health::{HealthCheckReport, HostMetrics};
use crate::engine::{Failure, Timestamp};
use crate::monitor::versioned_file::VersionedFile;

/// The last report, in the state folder.
pub const HEALTH_FILE: &str = "health.json";

/// The alerts, beside it.
pub const ALERTS_FILE: &str = "alerts.json";

/// The scores of a day, beside it.
pub const DEGRADATION_FILE: &str = "degradation.json";

/// How everything was when the monitor last looked.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct HealthDocument {
    /// Absent before the first look.
    pub report: Option<HealthCheckReport>,
    pub providers: Vec<ProviderHealth>,
    /// The machine in numbers, for metrics; absent where it could not be looked at.
    #[serde(default)]
    pub system: Option<HostMetrics>,
}

/// The three files, and the ways to read and change them.
#[derive(Debug)]
pub struct HealthFiles {
    pub health: VersionedFile<HealthDocument>,
    pub alerts: VersionedFile<AlertStore>,
    pub degradation: VersionedFile<DegradationHistory>,
}

impl HealthFiles {
    /// The files in a state folder of this machine.
    #[must_use]
    pub fn new(state_dir: &Path) -> Self {
        Self {
            health: VersionedFile::new(state_dir, HEALTH_FILE),
            alerts: VersionedFile::new(state_dir, ALERTS_FILE),
            degradation: VersionedFile::new(state_dir, DEGRADATION_FILE),
        }
    }

    /// Writes down how everything is.
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
        self.degradation.change(Durability::Visible, |history| {
            history.record(&providers, now);
            Ok(())
        })?;
        let health = HealthDocument { report: Some(report), providers, system };
        self.health.change(Durability::Visible, |kept| {
            *kept = health;
            Ok(())
        })
    }

    /// Takes what was seen into the book of alerts, and has `queue` see to it that what is new gets
    /// told. Where that fails, nothing counts as told.
    ///
    /// # Errors
    /// A storage failure, or that of `queue`.
    pub(super) fn update_alerts(
        &self,
        looked: &Observation,
        queue: impl FnOnce(&[Notification]) -> Result<(), Failure>,
        now: Timestamp,
    ) -> Result<Vec<Notification>, Failure> {
        self.alerts.change(Durability::Durable, |book| {
            let notices = book.evaluate(looked, now);
            // Told twice after a power cut is better than never.
            queue(&notices)?;
            Ok(notices)
        })
    }
}
