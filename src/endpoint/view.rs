//! Data of the dashboard and the JSON API, as plain values.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use cynosure_engine::Timestamp;
use cynosure_engine::alert::Severity;
use cynosure_engine::health::degradation::{DegradationHistory, ProviderHealth};
use cynosure_engine::health::{Finding, HealthLevel};
use cynosure_engine::time_series::TimeSeries;
use serde::{Serialize, Serializer};

/// Step of the growth of an archive: a day in UTC.
pub const GROWTH_STEP: Duration = Duration::from_secs(86_400);

/// All data of the dashboard at one time.
#[derive(Clone, Debug)]
pub struct Snapshot {
    pub at: Timestamp,
    pub health: HealthView,
    pub sources: Vec<SourceView>,
    pub providers: Vec<ProviderView>,
    pub quotas: Vec<QuotaView>,
    /// Newest first.
    pub alerts: Vec<AlertView>,
    /// Reason if the alerts are missing.
    pub alerts_error: Option<String>,
    /// Degradation of each provider over the last day.
    pub degradation: DegradationHistory,
    /// Reason if the degradation is missing.
    pub degradation_error: Option<String>,
    pub trends: Trends,
}

/// Result of the last health check.
#[derive(Clone, Debug)]
pub struct HealthView {
    /// Worst level of all checks.
    pub level: HealthLevel,
    /// Summary in one sentence.
    pub summary: String,
    /// Time of the check; `None` before the first.
    pub checked_at: Option<Timestamp>,
    pub findings: Vec<Finding>,
}

/// One source. Counts are items of the current session, except those of the archive.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct SourceView {
    pub name: String,
    pub provider: String,
    pub kind: String,
    /// Name of the state, such as `idle` or `collecting`; `never_run` or `unknown` without a state.
    pub state: String,
    /// True if its worker process exists.
    #[serde(rename = "running")]
    pub is_running: bool,
    /// Worst level of the last checks of this source; null if there were none.
    pub level: Option<HealthLevel>,
    /// Current activity, its reason and the next step, as text.
    #[serde(rename = "sentence")]
    pub status_text: String,
    /// Deadline of the current state, as text.
    #[serde(rename = "deadline")]
    pub deadline_text: Option<String>,
    #[serde(rename = "until")]
    pub deadline_at: Option<Timestamp>,
    pub state_since: Option<Timestamp>,
    pub last_progress: Option<Timestamp>,
    pub session: Option<String>,
    /// Listed items; grows while the listing is not complete.
    pub total: u64,
    /// Stored, gone or quarantined.
    pub settled: u64,
    pub stored: u64,
    pub gone: u64,
    pub quarantined: u64,
    pub waiting_for_retry: u64,
    /// Bytes of the fetched documents.
    pub fetched_bytes: u64,
    /// Estimated bytes of all documents to fetch; null if the server reports no sizes.
    pub expected_bytes: Option<u64>,
    #[serde(rename = "rate_per_second")]
    pub items_per_second: Option<f64>,
    /// Time until all items are settled at the current rate.
    pub eta_seconds: Option<u64>,
    /// Documents in the archive, earlier versions included, copies not; null if unknown.
    pub archive_documents: Option<u64>,
    /// Bytes of these documents.
    pub archive_bytes: Option<u64>,
    /// Time up to which the archive is complete; null before the first completion.
    pub complete_until: Option<Timestamp>,
    /// True if that time is more than three poll intervals ago, and no running session is about to
    /// move it.
    #[serde(rename = "complete_until_stale")]
    pub is_completeness_stale: bool,
    /// Errors of the session since the last progress.
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

/// One provider: its health and the state of its circuit breaker.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ProviderView {
    #[serde(flatten)]
    pub health: ProviderHealth,
    /// Reason that its circuit breaker is not closed, as text.
    #[serde(rename = "breaker_says")]
    pub breaker_note: Option<String>,
}

/// State of the rate limiter of one scope.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct QuotaView {
    /// Provider, followed by the host, account or route if that has a separate quota.
    pub scope: String,
    /// Maximum requests per second; null if unlimited.
    pub rate_per_second: Option<f64>,
    /// Source of that rate, as text.
    #[serde(rename = "basis")]
    pub rate_source: String,
    /// Remaining requests, as last reported by the server.
    pub remaining: Option<f64>,
    /// State of the block, as text.
    #[serde(rename = "gate")]
    pub block_status: String,
    #[serde(rename = "held_until")]
    pub blocked_until: Option<Timestamp>,
}

/// One alert, firing or resolved.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct AlertView {
    /// Current severity, or the last one before it resolved. If it resolved before a notification
    /// was sent: the severity of the resolution.
    pub severity: Severity,
    /// Highest severity since it last started firing.
    pub max_severity: Severity,
    /// Source, provider, unit or folder concerned.
    pub subject: String,
    /// Stable key: component and finding, as in `system.disk_full`.
    pub key: String,
    pub message: String,
    pub started_at: Timestamp,
    /// Null while it is firing.
    pub resolved_at: Option<Timestamp>,
    /// Times it started firing, each within an hour of the last notification.
    pub occurrences: u32,
    /// Recommended action.
    pub advice: Option<String>,
}

/// Time series, by name.
#[derive(Clone, Debug, Default)]
pub struct Trends {
    /// Items per second of each source.
    pub rates: BTreeMap<String, TrendView>,
    /// Remaining requests of each quota.
    pub quotas: BTreeMap<String, TrendView>,
    /// Reason if the series of the last day are missing.
    pub day_error: Option<String>,
}

/// One metric over the last half hour and over the last day.
#[derive(Clone, Debug, PartialEq)]
pub struct TrendView {
    pub recent: TimeSeries,
    pub day: TimeSeries,
}

/// State transition of a source.
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
    /// HTTP status of the server's last response.
    #[serde(rename = "reply_status")]
    pub response_status: Option<u16>,
}

/// Last completed session of a source, and the growth of its archive.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct SourceSummary {
    /// Empty if no session is completed.
    pub entries: Vec<SummaryEntry>,
    /// One entry per day, the last of them today. Empty if the source has never run.
    pub growth: Vec<ArchiveDay>,
}

/// Label and text of one fact about a session.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct SummaryEntry {
    pub label: String,
    pub text: String,
}

/// Size of an archive at the end of a day. A session counts on the day on which it started.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
pub struct ArchiveDay {
    /// Start of the day in UTC; serialized as its date.
    #[serde(rename = "day", serialize_with = "serialize_date")]
    pub starts_at: Timestamp,
    /// Documents in the archive; null before the first session.
    pub documents: Option<u64>,
    /// Bytes of these documents.
    pub bytes: Option<u64>,
}

/// Error of a lookup.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum LookupError {
    NoSuchSource,
    /// The data cannot be read; holds the reason, one sentence.
    Unreadable(String),
}

/// Source of the dashboard's data. Every call may block; none changes anything.
pub trait DashboardData: fmt::Debug + Send + Sync {
    /// Collects a snapshot of all data.
    fn snapshot(&self) -> Snapshot;

    /// Returns the last `limit` state transitions of a source, newest first.
    ///
    /// # Errors
    /// Returns a [`LookupError`].
    fn history(&self, source: &str, limit: usize) -> Result<Vec<StateTransition>, LookupError>;

    /// Returns at most `limit` items of a source that are not stored: quarantined, waiting, gone.
    ///
    /// # Errors
    /// Returns a [`LookupError`].
    fn failures(&self, source: &str, limit: usize) -> Result<Vec<FailedItem>, LookupError>;

    /// Returns the last completed session of a source, and the growth of its archive.
    ///
    /// # Errors
    /// Returns a [`LookupError`].
    fn summary(&self, source: &str) -> Result<SourceSummary, LookupError>;

    /// Returns all metrics in the text format of Prometheus, version 0.0.4.
    ///
    /// # Errors
    /// Returns a [`LookupError`].
    fn metrics(&self) -> Result<String, LookupError>;

    /// Returns all metrics as JSON.
    ///
    /// # Errors
    /// Returns a [`LookupError`].
    fn metrics_json(&self) -> Result<serde_json::Value, LookupError>;
}

impl Snapshot {
    /// Returns the source of this name.
    #[must_use]
    pub fn source(&self, name: &str) -> Option<&SourceView> {
        self.sources.iter().find(|source| source.name == name)
    }
}

impl HealthView {
    /// True if the level is healthy or a warning. An unknown level counts as unhealthy.
    #[must_use]
    pub fn is_healthy(&self) -> bool {
        match self.level {
            HealthLevel::Healthy | HealthLevel::Warning => true,
            HealthLevel::Skipped | HealthLevel::Unknown | HealthLevel::Critical => false,
        }
    }
}

/// Serializes the date of a time, as in `2026-11-30`.
fn serialize_date<S: Serializer>(at: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    let date_time = at.to_string();
    serializer.serialize_str(date_time.split('T').next().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_is_serialized_as_its_date() {
        // 2026-03-07 00:00:00 UTC.
        let starts_at = Timestamp(1_772_841_600_000);
        let day = ArchiveDay { starts_at, documents: Some(3), bytes: None };

        assert_eq!(
            serde_json::to_value(day).unwrap(),
            serde_json::json!({ "day": "2026-03-07", "documents": 3, "bytes": null })
        );
    }
}
