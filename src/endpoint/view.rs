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
    pub summary: String,
    /// When it was last looked; `None` before the first time.
    pub checked_at: Option<Timestamp>,
    pub checks: Vec<HealthCheck>,
    pub sources: Vec<SourceView>,
    pub providers: Vec<ProviderView>,
    pub quotas: Vec<QuotaView>,
    /// The newest first.
    pub alerts: Vec<AlertView>,
    /// Why they are missing.
    pub alerts_error: Option<String>,
    /// The degradation of each provider over a day.
    pub degradation: DegradationHistory,
    /// Why it is missing.
    pub degradation_error: Option<String>,
    pub trends: Trends,
}

/// One source. Counts are of items, and of the present session.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SourceView {
    pub name: String,
    pub provider: String,
    pub kind: String,
    /// `idle`, `collecting` and so on, `never_run`, or `unknown`.
    pub state: String,
    /// Whether its worker is there.
    #[serde(rename = "running")]
    pub is_running: bool,
    /// The worst of what was last found about it; null where nothing was.
    pub level: Option<HealthLevel>,
    /// What it does, why, and what happens next, for a person.
    #[serde(rename = "sentence")]
    pub status_text: String,
    /// When the present state ends or is looked into, for a person.
    #[serde(rename = "deadline")]
    pub deadline_text: Option<String>,
    #[serde(rename = "until")]
    pub deadline_at: Option<Timestamp>,
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
    #[serde(rename = "rate_per_second")]
    pub items_per_second: Option<f64>,
    /// Until all are settled, at this rate.
    pub eta_seconds: Option<u64>,
    /// Errors of the session since its last progress.
    pub consecutive_errors: u32,
    pub restart_count: u32,
    pub last_error: Option<LastErrorView>,
}

#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct LastErrorView {
    pub cause: String,
    pub message: String,
    pub at: Timestamp,
}

/// One provider: its health, and what its breaker says.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ProviderView {
    #[serde(flatten)]
    pub health: ProviderHealth,
    /// Why its breaker is not closed, for a person.
    #[serde(rename = "breaker_says")]
    pub breaker_note: Option<String>,
}

/// What is known of one quota.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct QuotaView {
    /// The provider, and the host, account or route where that has one of its own.
    pub scope: String,
    /// Requests per second that are made at most; null where nothing limits them.
    pub rate_per_second: Option<f64>,
    /// Where that rate comes from, for a person.
    #[serde(rename = "basis")]
    pub rate_source: String,
    /// Requests that are left, as the server told last.
    pub remaining: Option<f64>,
    /// Whether the gate is open, for a person.
    #[serde(rename = "gate")]
    pub block_status: String,
    #[serde(rename = "held_until")]
    pub blocked_until: Option<Timestamp>,
}

/// Something that needed a person, or still does.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct AlertView {
    /// As it is, as it was in the end, or, where it was over before it could be told, that of its end.
    pub severity: Severity,
    /// The worst that it was since it last began.
    #[serde(rename = "worst")]
    pub max_severity: Severity,
    /// The source, provider, unit or folder that it is about.
    #[serde(rename = "about")]
    pub subject: String,
    /// Two stable words, as in `system.disk_full`.
    pub cause: String,
    pub message: String,
    #[serde(rename = "raised_at")]
    pub started_at: Timestamp,
    /// When it was over; null while it lasts.
    #[serde(rename = "ended_at")]
    pub resolved_at: Option<Timestamp>,
    /// How often it began, within an hour of being told each time.
    #[serde(rename = "times")]
    pub occurrences: u32,
    /// What to do.
    pub advice: Option<String>,
}

/// Figures over time, by name.
#[derive(Clone, Debug, Default)]
pub struct Trends {
    /// Items per second of each source.
    pub rates: BTreeMap<String, TrendView>,
    /// Requests left of each quota.
    pub quotas: BTreeMap<String, TrendView>,
    /// Why their days are missing.
    pub day_error: Option<String>,
}

/// One figure, seen from near and from afar.
#[derive(Clone, Debug, PartialEq)]
pub struct TrendView {
    pub recent: TimeSeries,
    pub day: TimeSeries,
}

/// A change of state of a source.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct StateTransition {
    pub at: Timestamp,
    pub from: String,
    pub to: String,
    pub reason: String,
    pub session: Option<String>,
}

/// An item that is not stored.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct FailedItem {
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
pub enum LookupError {
    /// There is no such source.
    NoSuchSource,
    /// It cannot be read: one sentence.
    Unreadable(String),
}

/// Knows what is shown. Every call may block, and changes nothing.
pub trait DashboardData: fmt::Debug + Send + Sync {
    /// Looks at everything.
    fn snapshot(&self) -> Snapshot;

    /// The newest changes of state of a source, newest first.
    ///
    /// # Errors
    /// [`Untold`].
    fn history(&self, source: &str, limit: usize) -> Result<Vec<StateTransition>, LookupError>;

    /// Items of a source that are not stored: what is quarantined, what waits, what is gone.
    ///
    /// # Errors
    /// [`Untold`].
    fn failures(&self, source: &str, limit: usize) -> Result<Vec<FailedItem>, LookupError>;

    /// All metrics in the text format of Prometheus, version 0.0.4.
    ///
    /// # Errors
    /// [`Untold`].
    fn metrics(&self) -> Result<String, LookupError>;

    /// The same as JSON.
    ///
    /// # Errors
    /// [`Untold`].
    fn metrics_json(&self) -> Result<serde_json::Value, LookupError>;
}

impl Snapshot {
    #[must_use]
    pub fn source(&self, name: &str) -> Option<&SourceView> {
        self.sources.iter().find(|source| source.name == name)
    }

    /// Whether it is as it should be: what is not known is not.
    #[must_use]
    pub fn is_healthy(&self) -> bool {
        match self.level {
            HealthLevel::Healthy | HealthLevel::Warning => true,
            HealthLevel::Unknown | HealthLevel::Critical => false,
        }
    }
}
