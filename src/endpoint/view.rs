//! What is shown, as plain values: filled by whoever knows, and read by page and programs alike.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use crate::engine::Timestamp;
use crate::engine::alert::Severity;
use crate::engine::degradation::{DegradationHistory, ProviderHealth};
use crate::engine::health::HealthCheck;
use crate::engine::time_series::TimeSeries;
use crate::engine::watch::HealthLevel;

/// Everything at one moment.
#[derive(Clone, Debug)]
pub struct Snapshot {
    pub at: Timestamp,
    /// The worst of what was found when it was last looked.
    pub level: HealthLevel,
    /// The same in one sentence.
    pub sentence: String,
    /// When it was last looked; `None` before the first time.
    pub looked_at: Option<Timestamp>,
    pub checks: Vec<HealthCheck>,
    pub sources: Vec<Source>,
    pub providers: Vec<Provider>,
    pub quotas: Vec<Quota>,
    /// The newest first.
    pub alerts: Vec<Alert>,
    /// Why they are missing.
    pub alerts_untold: Option<String>,
    /// The degradation of each provider over a day.
    pub degradation: DegradationHistory,
    /// Why it is missing.
    pub degradation_untold: Option<String>,
    pub trends: Trends,
}

/// One source. Counts are of items, and of the present session.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Source {
    pub name: String,
    pub provider: String,
    pub kind: String,
    /// `idle`, `collecting` and so on, `never_run`, or `unknown`.
    pub state: String,
    /// Whether its worker is there.
    pub running: bool,
    /// The worst of what was last found about it; null where nothing was.
    pub level: Option<HealthLevel>,
    /// What it does, why, and what happens next, for a person.
    pub sentence: String,
    /// When the present state ends or is looked into, for a person.
    pub deadline: Option<String>,
    pub until: Option<Timestamp>,
    pub state_since: Option<Timestamp>,
    pub last_progress: Option<Timestamp>,
    pub session: Option<String>,
    /// How many are listed; it grows while the list is not complete.
    pub total: u64,
    /// Stored, gone or quarantined.
    pub settled: u64,
    pub stored: u64,
    pub gone: u64,
    pub quarantined: u64,
    pub waiting_for_retry: u64,
    pub rate_per_second: Option<f64>,
    /// Until all are settled, at this rate.
    pub eta_seconds: Option<u64>,
    /// Errors of the session since its last progress.
    pub consecutive_errors: u32,
    pub restart_count: u32,
    pub last_error: Option<LastError>,
}

#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct LastError {
    pub cause: String,
    pub message: String,
    pub at: Timestamp,
}

/// One provider: its health, and what its breaker says.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Provider {
    #[serde(flatten)]
    pub health: ProviderHealth,
    /// Why its breaker is not closed, for a person.
    pub breaker_says: Option<String>,
}

/// What is known of one quota.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Quota {
    /// The provider, and the host, account or route where that has one of its own.
    pub scope: String,
    /// Requests per second that are made at most; null where nothing limits them.
    pub rate_per_second: Option<f64>,
    /// Where that rate comes from, for a person.
    pub basis: String,
    /// Requests that are left, as the server told last.
    pub remaining: Option<f64>,
    /// Whether the gate is open, for a person.
    pub gate: String,
    pub held_until: Option<Timestamp>,
}

/// Something that needed a person, or still does.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Alert {
    /// As it is, as it was in the end, or, where it was over before it could be told, that of its end.
    pub severity: Severity,
    /// The worst that it was since it last began.
    pub worst: Severity,
    /// The source, provider, unit or folder that it is about.
    pub about: String,
    /// Two stable words, as in `system.disk_full`.
    pub cause: String,
    pub message: String,
    pub raised_at: Timestamp,
    /// When it was over; null while it lasts.
    pub ended_at: Option<Timestamp>,
    /// How often it began, within an hour of being told each time.
    pub times: u32,
    /// What to do.
    pub advice: Option<String>,
}

/// Figures over time, by name.
#[derive(Clone, Debug, Default)]
pub struct Trends {
    /// Items per second of each source.
    pub rates: BTreeMap<String, Trend>,
    /// Requests left of each quota.
    pub quotas: BTreeMap<String, Trend>,
    /// Why their days are missing.
    pub untold: Option<String>,
}

/// One figure, seen from near and from afar.
#[derive(Clone, Debug, PartialEq)]
pub struct Trend {
    pub recent: TimeSeries,
    pub day: TimeSeries,
}

/// A change of state of a source.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Passed {
    pub at: Timestamp,
    pub from: String,
    pub to: String,
    pub reason: String,
    pub session: Option<String>,
}

/// An item that is not stored.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Failed {
    pub item: String,
    /// `waiting`, `quarantined` or `gone`.
    pub state: String,
    pub attempts: u32,
    pub next_at: Option<Timestamp>,
    pub cause: Option<String>,
    pub message: String,
    pub failed_at: Option<Timestamp>,
    /// The status of the server's last reply.
    pub reply_status: Option<u16>,
}

/// Why something cannot be told.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Untold {
    /// There is no such source.
    NoSuchSource,
    /// It cannot be read: one sentence.
    Unreadable(String),
}

/// Knows what is shown. Every call may block, and changes nothing.
pub trait Lookout: fmt::Debug + Send + Sync {
    /// Looks at everything.
    fn snapshot(&self) -> Snapshot;

    /// The newest changes of state of a source, newest first.
    ///
    /// # Errors
    /// [`Untold`].
    fn history(&self, source: &str, limit: usize) -> Result<Vec<Passed>, Untold>;

    /// Items of a source that are not stored: what is quarantined, what waits, what is gone.
    ///
    /// # Errors
    /// [`Untold`].
    fn failures(&self, source: &str, limit: usize) -> Result<Vec<Failed>, Untold>;

    /// All metrics in the text format of Prometheus, version 0.0.4.
    ///
    /// # Errors
    /// [`Untold`].
    fn metrics(&self) -> Result<String, Untold>;

    /// The same as JSON.
    ///
    /// # Errors
    /// [`Untold`].
    fn metrics_json(&self) -> Result<serde_json::Value, Untold>;
}

impl Snapshot {
    #[must_use]
    pub fn source(&self, name: &str) -> Option<&Source> {
        self.sources.iter().find(|source| source.name == name)
    }

    /// Whether it is as it should be: what is not known is not.
    #[must_use]
    pub fn is_well(&self) -> bool {
        match self.level {
            HealthLevel::Healthy | HealthLevel::Warning => true,
            HealthLevel::Unknown | HealthLevel::Critical => false,
        }
    }
}
