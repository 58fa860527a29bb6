//! OTLP metrics for a collector.

use std::collections::BTreeMap;

use cynosure_engine::Timestamp;
use serde_json::{Value as Json, json};

use crate::telemetry::otlp::{encode_attribute, encode_resource, encode_scope, to_unix_nanos};
use crate::telemetry::{
    MetricFamily, MetricKind, MetricSeries, MetricValue, MetricsSnapshot, SourceSnapshot,
    TelemetryResource, families,
};

/// Counters and histograms contain everything since counting began, possibly several process starts
/// ago. If that time is unknown, `startTimeUnixNano` is left out, and collectors detect a reset to
/// zero from the values.
const TEMPORALITY_CUMULATIVE: u8 = 2;

/// Encodes all metrics in an `ExportMetricsServiceRequest`.
#[must_use]
pub fn encode_metrics(input: &MetricsSnapshot, resource: &TelemetryResource) -> Json {
    let at = to_unix_nanos(input.taken_at);
    let starts = counting_starts(input);
    let metrics = families(input);
    let metrics: Vec<Json> =
        metrics.iter().map(|family| encode_metric(family, &starts, &at)).collect();
    json!({ "resourceMetrics": [{
        "resource": encode_resource(resource),
        "scopeMetrics": [{ "scope": encode_scope(resource.version), "metrics": metrics }],
    }] })
}

/// Returns the time since which each source is counted. It is never in the future, even if the
/// clock was set back.
fn counting_starts(input: &MetricsSnapshot) -> BTreeMap<&str, String> {
    let start = |source: &'_ SourceSnapshot| source.metrics.as_ref()?.counting_since.map(Timestamp);
    let sources = input.sources.iter();
    let known = sources.filter_map(|source| Some((source.name.as_str(), start(source)?)));
    known.map(|(name, start)| (name, to_unix_nanos(start.min(input.taken_at)))).collect()
}

fn encode_metric(family: &MetricFamily, starts: &BTreeMap<&str, String>, at: &str) -> Json {
    let mut points: Vec<Json> =
        family.series.iter().map(|series| encode_point(series, at)).collect();
    if family.kind != MetricKind::Gauge {
        for (point, series) in points.iter_mut().zip(&family.series) {
            let source = series.labels.iter().find(|(label, _)| *label == "source");
            if let Some(start) = source.and_then(|(_, name)| starts.get(name.as_str())) {
                point["startTimeUnixNano"] = start.as_str().into();
            }
        }
    }
    let (name, description) = (family.name, family.help);
    match family.kind {
        MetricKind::Gauge => {
            json!({ "name": name, "description": description, "gauge": { "dataPoints": points } })
        }
        MetricKind::Counter => json!({
            "name": name,
            "description": description,
            "sum": {
                "dataPoints": points,
                "aggregationTemporality": TEMPORALITY_CUMULATIVE,
                "isMonotonic": true,
            },
        }),
        MetricKind::Histogram => json!({
            "name": name,
            "description": description,
            "histogram": { "dataPoints": points, "aggregationTemporality": TEMPORALITY_CUMULATIVE },
        }),
    }
}

fn encode_point(MetricSeries { labels, value }: &MetricSeries, at: &str) -> Json {
    let attributes: Vec<Json> =
        labels.iter().map(|(key, value)| encode_attribute(key, value)).collect();
    match value {
        MetricValue::Number(number) => {
            json!({ "attributes": attributes, "timeUnixNano": at, "asDouble": number })
        }
        MetricValue::Histogram { buckets, overflow, sum } => {
            let counts = buckets.iter().map(|(_, count)| count).chain([overflow]);
            json!({
                "attributes": attributes,
                "timeUnixNano": at,
                "count": value.count().unwrap_or(0).to_string(),
                "sum": sum,
                "bucketCounts": counts.map(u64::to_string).collect::<Vec<_>>(),
                "explicitBounds": buckets.iter().map(|(bound, _)| bound).collect::<Vec<_>>(),
            })
        }
    }
}
