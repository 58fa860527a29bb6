//! What the monitor publishes of health: the last report, the alerts, and a day of degradation.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::disk::Lasts;
use crate::engine::alert::{Alerts, Looked, Notice};
use crate::engine::degradation::{History, ProviderHealth};
use crate::engine::health::{Report, System};
use crate::engine::{Failure, Moment};
use crate::monitor::kept::Kept;

/// The last report, in the state folder.
pub const HEALTH_FILE: &str = "health.json";

/// The alerts, beside it.
pub const ALERTS_FILE: &str = "alerts.json";

/// The scores of a day, beside it.
pub const DEGRADATION_FILE: &str = "degradation.json";

/// How everything was when the monitor last looked.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Health {
    /// Absent before the first look.
    pub report: Option<Report>,
    pub providers: Vec<ProviderHealth>,
    /// The machine in numbers, for metrics; absent where it could not be looked at.
    #[serde(default)]
    pub system: Option<System>,
}

/// The three files, and the ways to read and change them.
#[derive(Debug)]
pub struct HealthFiles {
    pub health: Kept<Health>,
    pub alerts: Kept<Alerts>,
    pub degradation: Kept<History>,
}

impl HealthFiles {
    /// The files in a state folder of this machine.
    #[must_use]
    pub fn new(state_dir: &Path) -> Self {
        Self {
            health: Kept::new(state_dir, HEALTH_FILE),
            alerts: Kept::new(state_dir, ALERTS_FILE),
            degradation: Kept::new(state_dir, DEGRADATION_FILE),
        }
    }

    /// Writes down how everything is.
    ///
    /// # Errors
    /// A storage failure.
    pub fn publish(
        &self,
        report: Report,
        providers: Vec<ProviderHealth>,
        system: Option<System>,
        now: Moment,
    ) -> Result<(), Failure> {
        self.degradation.change(Lasts::Process, |history| history.note(&providers, now))?;
        let health = Health { report: Some(report), providers, system };
        self.health.change(Lasts::Process, |kept| *kept = health)?;
        Ok(())
    }

    /// Takes what was seen into the book of alerts, and returns what is to be told. A book that
    /// could not be read begins anew, so that what lasts is told once more.
    ///
    /// # Errors
    /// A storage failure; then nothing is told, and what lasts is told when the book can be written.
    pub fn note(&self, looked: &Looked, now: Moment) -> Result<Vec<Notice>, Failure> {
        let (notices, _) = self.alerts.change(Lasts::PowerCut, |book| book.note(looked, now))?;
        Ok(notices)
    }
}
