//! JSON responses of the API. `openapi.json` describes each of them.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::endpoint::view::{AlertView, Snapshot, TrendView};
use crate::engine::Timestamp;
use crate::engine::alert::Severity;
use crate::engine::degradation::{DegradationLevel, SLOT_DURATION};
use crate::engine::time_series::TimeSeries;

const OPENAPI: &str = include_str!("openapi.json");

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
    json!({
        "status": snapshot.level,
        "sentence": snapshot.summary,
        "looked_at": snapshot.checked_at,
        "at": snapshot.at,
    })
}

pub(super) fn overview(snapshot: &Snapshot) -> Value {
    let mut states: BTreeMap<&str, u64> = BTreeMap::new();
    for source in &snapshot.sources {
        *states.entry(&source.state).or_default() += 1;
    }
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
    let sum = |field: fn(&crate::endpoint::view::SourceView) -> u64| {
        snapshot.sources.iter().map(field).fold(0_u64, u64::saturating_add)
    };
    let rates = snapshot.sources.iter().filter_map(|source| source.items_per_second);
    json!({
        "at": snapshot.at,
        "level": snapshot.level,
        "sentence": snapshot.summary,
        "looked_at": snapshot.checked_at,
        "sources": {
            "total": snapshot.sources.len(),
            "running": snapshot.sources.iter().filter(|source| source.is_running).count(),
            "states": states,
        },
        "items": {
            "total": sum(|source| source.total),
            "stored": sum(|source| source.stored),
            "gone": sum(|source| source.gone),
            "quarantined": sum(|source| source.quarantined),
            "waiting_for_retry": sum(|source| source.waiting_for_retry),
            "rate_per_second": rates.fold(0.0, |sum: f64, rate| sum + rate),
        },
        "providers": BTreeMap::from(levels),
        "alerts": BTreeMap::from(by_severity),
        "alerts_error": snapshot.alerts_error,
        "checks": snapshot.checks,
    })
}

/// Alerts, newest first.
pub(super) fn alerts(snapshot: &Snapshot, limit: usize, severity: Option<Severity>) -> Value {
    let is_selected =
        |alert: &&AlertView| severity.is_none_or(|severity| severity == alert.severity);
    let selected: Vec<&AlertView> = snapshot.alerts.iter().filter(is_selected).collect();
    json!({
        "at": snapshot.at,
        "total": selected.len(),
        "alerts": &selected[..limit.min(selected.len())],
        "error": snapshot.alerts_error,
    })
}

pub(super) fn degradation(snapshot: &Snapshot) -> Value {
    json!({
        "at": snapshot.at,
        "first": snapshot.degradation.starts_at,
        "slot_seconds": SLOT_DURATION.as_secs(),
        "scores": snapshot.degradation.scores,
        "error": snapshot.degradation_error,
    })
}

pub(super) fn trends(snapshot: &Snapshot) -> Value {
    let trends_by_name = |trends: &BTreeMap<String, TrendView>| -> BTreeMap<String, Value> {
        trends.iter().map(|(name, trend)| (name.clone(), trend_json(trend, snapshot.at))).collect()
    };
    json!({
        "at": snapshot.at,
        "rates": trends_by_name(&snapshot.trends.rates),
        "quotas": trends_by_name(&snapshot.trends.quotas),
        "error": snapshot.trends.day_error,
    })
}

fn trend_json(trend: &TrendView, now: Timestamp) -> Value {
    let series_json = |series: &TimeSeries| json!({ "step_seconds": series.step().as_secs(), "values": series.values_until(now) });
    json!({ "recent": series_json(&trend.recent), "day": series_json(&trend.day) })
}
