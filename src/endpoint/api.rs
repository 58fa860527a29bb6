//! JSON responses of the API. `openapi.json` describes each of them.

use std::collections::BTreeMap;

use cynosure_engine::Timestamp;
use cynosure_engine::alert::Severity;
use cynosure_engine::health::degradation::{DegradationLevel, SLOT_DURATION};
use cynosure_engine::health::{Finding, HealthLevel};
use cynosure_engine::time_series::TimeSeries;
use serde::Serialize;
use serde_json::{Value, json};

use crate::endpoint::response::sorted_json;
use crate::endpoint::view::{
    AlertView, ArchiveDay, FailedItem, ProviderView, Snapshot, SourceSummary, SourceView,
    StateTransition, SummaryEntry, TrendView,
};

const OPENAPI: &str = include_str!("openapi.json");

#[derive(Serialize)]
struct HealthJson<'a> {
    #[serde(rename = "status")]
    level: HealthLevel,
    #[serde(rename = "sentence")]
    summary: &'a str,
    /// Null before the first health check.
    #[serde(rename = "looked_at")]
    checked_at: Option<Timestamp>,
    at: Timestamp,
}

#[derive(Serialize)]
struct OverviewJson<'a> {
    at: Timestamp,
    level: HealthLevel,
    #[serde(rename = "sentence")]
    summary: &'a str,
    /// Null before the first health check.
    #[serde(rename = "looked_at")]
    checked_at: Option<Timestamp>,
    sources: SourceCountsJson<'a>,
    items: ItemCountsJson,
    /// Number of providers by level of degradation.
    providers: BTreeMap<&'static str, usize>,
    /// Number of firing alerts by severity.
    alerts: BTreeMap<&'static str, usize>,
    /// Reason if the alerts are missing.
    alerts_error: Option<&'a str>,
    #[serde(rename = "checks")]
    findings: &'a [Finding],
}

#[derive(Serialize)]
struct SourceCountsJson<'a> {
    total: usize,
    running: usize,
    /// Number of sources by state. A state without sources is absent.
    states: BTreeMap<&'a str, u64>,
}

/// Items of the current sessions of all sources.
#[derive(Serialize)]
struct ItemCountsJson {
    total: u64,
    stored: u64,
    gone: u64,
    quarantined: u64,
    waiting_for_retry: u64,
    rate_per_second: f64,
}

#[derive(Serialize)]
struct SourcesJson<'a> {
    at: Timestamp,
    sources: &'a [SourceView],
}

#[derive(Serialize)]
struct ProvidersJson<'a> {
    at: Timestamp,
    providers: &'a [ProviderView],
}

#[derive(Serialize)]
struct AlertsJson<'a> {
    at: Timestamp,
    /// Number of selected alerts, also those beyond the limit.
    total: usize,
    alerts: &'a [&'a AlertView],
    /// Reason if the alerts are missing.
    error: Option<&'a str>,
}

#[derive(Serialize)]
struct DegradationJson<'a> {
    at: Timestamp,
    /// Start of the first slot.
    #[serde(rename = "first")]
    starts_at: Timestamp,
    slot_seconds: u64,
    /// Worst score of each slot, by provider.
    scores: &'a BTreeMap<String, Vec<Option<f64>>>,
    /// Reason if the degradation is missing.
    error: Option<&'a str>,
}

#[derive(Serialize)]
struct TrendsJson<'a> {
    at: Timestamp,
    /// Items per second of each source.
    rates: BTreeMap<&'a str, TrendJson>,
    /// Remaining requests of each quota.
    quotas: BTreeMap<&'a str, TrendJson>,
    /// Reason if the series of the last day are missing.
    error: Option<&'a str>,
}

/// One metric over the last half hour and over the last day.
#[derive(Serialize)]
struct TrendJson {
    recent: TimeSeriesJson,
    day: TimeSeriesJson,
}

/// One value per step, the last of them the current one; null for a step without samples.
#[derive(Serialize)]
struct TimeSeriesJson {
    step_seconds: u64,
    values: Vec<Option<f32>>,
}

#[derive(Serialize)]
struct HistoryJson<'a> {
    source: &'a str,
    /// Newest first.
    #[serde(rename = "history")]
    transitions: &'a [StateTransition],
}

#[derive(Serialize)]
struct FailuresJson<'a> {
    source: &'a str,
    #[serde(rename = "failures")]
    items: &'a [FailedItem],
}

#[derive(Serialize)]
struct LastSessionJson<'a> {
    source: &'a str,
    #[serde(rename = "summary")]
    entries: &'a [SummaryEntry],
    /// Oldest first.
    growth: &'a [ArchiveDay],
}

/// OpenAPI 3.0.3 description of the API, with the program version and the authentication in use.
pub(super) fn openapi(needs_token: bool) -> Value {
    // A test checks that the file parses.
    let mut document: Value = serde_json::from_str(OPENAPI).unwrap_or_default();
    document["info"]["version"] = env!("CARGO_PKG_VERSION").into();
    if needs_token {
        document["security"] = json!([{ "bearer": [] }, { "basic": [] }]);
    }
    document
}

pub(super) fn health(snapshot: &Snapshot) -> Value {
    sorted_json(&HealthJson {
        level: snapshot.health.level,
        summary: &snapshot.health.summary,
        checked_at: snapshot.health.checked_at,
        at: snapshot.at,
    })
}

pub(super) fn overview(snapshot: &Snapshot) -> Value {
    let levels = DegradationLevel::ALL.map(|level| {
        let count =
            snapshot.providers.iter().filter(|provider| provider.health.level == level).count();
        (level.name(), count)
    });
    let firing = snapshot.alerts.iter().filter(|alert| alert.resolved_at.is_none());
    let firing: Vec<&AlertView> = firing.collect();
    let by_severity = Severity::ALL.map(|severity| {
        (severity.name(), firing.iter().filter(|alert| alert.severity == severity).count())
    });
    sorted_json(&OverviewJson {
        at: snapshot.at,
        level: snapshot.health.level,
        summary: &snapshot.health.summary,
        checked_at: snapshot.health.checked_at,
        sources: source_counts(&snapshot.sources),
        items: item_counts(&snapshot.sources),
        providers: BTreeMap::from(levels),
        alerts: BTreeMap::from(by_severity),
        alerts_error: snapshot.alerts_error.as_deref(),
        findings: &snapshot.health.findings,
    })
}

fn source_counts(sources: &[SourceView]) -> SourceCountsJson<'_> {
    let mut states: BTreeMap<&str, u64> = BTreeMap::new();
    for source in sources {
        *states.entry(&source.state).or_default() += 1;
    }
    SourceCountsJson {
        total: sources.len(),
        running: sources.iter().filter(|source| source.is_running).count(),
        states,
    }
}

fn item_counts(sources: &[SourceView]) -> ItemCountsJson {
    let sum =
        |field: fn(&SourceView) -> u64| sources.iter().map(field).fold(0_u64, u64::saturating_add);
    let rates = sources.iter().filter_map(|source| source.items_per_second);
    ItemCountsJson {
        total: sum(|source| source.total),
        stored: sum(|source| source.stored),
        gone: sum(|source| source.gone),
        quarantined: sum(|source| source.quarantined),
        waiting_for_retry: sum(|source| source.waiting_for_retry),
        rate_per_second: rates.fold(0.0, |sum: f64, rate| sum + rate),
    }
}

pub(super) fn sources(snapshot: &Snapshot) -> Value {
    sorted_json(&SourcesJson { at: snapshot.at, sources: &snapshot.sources })
}

pub(super) fn providers(snapshot: &Snapshot) -> Value {
    sorted_json(&ProvidersJson { at: snapshot.at, providers: &snapshot.providers })
}

/// Alerts, newest first.
pub(super) fn alerts(snapshot: &Snapshot, limit: usize, severity: Option<Severity>) -> Value {
    let is_selected =
        |alert: &&AlertView| severity.is_none_or(|severity| severity == alert.severity);
    let selected: Vec<&AlertView> = snapshot.alerts.iter().filter(is_selected).collect();
    sorted_json(&AlertsJson {
        at: snapshot.at,
        total: selected.len(),
        alerts: &selected[..limit.min(selected.len())],
        error: snapshot.alerts_error.as_deref(),
    })
}

pub(super) fn degradation(snapshot: &Snapshot) -> Value {
    sorted_json(&DegradationJson {
        at: snapshot.at,
        starts_at: snapshot.degradation.starts_at,
        slot_seconds: SLOT_DURATION.as_secs(),
        scores: &snapshot.degradation.scores,
        error: snapshot.degradation_error.as_deref(),
    })
}

pub(super) fn trends(snapshot: &Snapshot) -> Value {
    sorted_json(&TrendsJson {
        at: snapshot.at,
        rates: trends_by_name(&snapshot.trends.rates, snapshot.at),
        quotas: trends_by_name(&snapshot.trends.quotas, snapshot.at),
        error: snapshot.trends.day_error.as_deref(),
    })
}

fn trends_by_name(
    trends: &BTreeMap<String, TrendView>,
    now: Timestamp,
) -> BTreeMap<&str, TrendJson> {
    trends.iter().map(|(name, trend)| (name.as_str(), trend_json(trend, now))).collect()
}

fn trend_json(trend: &TrendView, now: Timestamp) -> TrendJson {
    let series_json = |series: &TimeSeries| TimeSeriesJson {
        step_seconds: series.step().as_secs(),
        values: series.values_until(now),
    };
    TrendJson { recent: series_json(&trend.recent), day: series_json(&trend.day) }
}

pub(super) fn history(source: &str, transitions: &[StateTransition]) -> Value {
    sorted_json(&HistoryJson { source, transitions })
}

pub(super) fn failures(source: &str, items: &[FailedItem]) -> Value {
    sorted_json(&FailuresJson { source, items })
}

pub(super) fn summary(source: &str, summary: &SourceSummary) -> Value {
    let SourceSummary { entries, growth } = summary;
    sorted_json(&LastSessionJson { source, entries, growth })
}
