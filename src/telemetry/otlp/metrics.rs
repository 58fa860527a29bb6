//! Metrics for a collector.

use std::collections::BTreeMap;

use serde_json::{Value as Json, json};

use crate::engine::Timestamp;
use crate::telemetry::otlp::{attribute, nanoseconds, scope, whose};
use crate::telemetry::{Family, Input, Kind, Resource, Series, Source, Value, families};

/// Counts and histograms hold everything since counting began, which may be lives ago. Where nobody
/// wrote down when that was, `startTimeUnixNano` is left out, and collectors find a beginning from
/// zero by the values themselves.
const CUMULATIVE: u8 = 2;

/// Writes an `ExportMetricsServiceRequest` with all metrics.
#[must_use]
pub fn metrics(input: &Input, resource: &Resource) -> Json {
    let at = nanoseconds(input.at);
    let began = beginnings(input);
    let metrics = families(input);
    let metrics: Vec<Json> = metrics.iter().map(|family| metric(family, &began, &at)).collect();
    json!({ "resourceMetrics": [{
        "resource": whose(resource),
        "scopeMetrics": [{ "scope": scope(resource.version), "metrics": metrics }],
    }] })
}

/// Since when each source is counted. A clock that was set back makes no time of it that is to come.
fn beginnings(input: &Input) -> BTreeMap<&str, String> {
    let began = |source: &'_ Source| source.figures.as_ref()?.counting_since.map(Timestamp);
    let sources = input.sources.iter();
    let known = sources.filter_map(|source| Some((source.name.as_str(), began(source)?)));
    known.map(|(name, began)| (name, nanoseconds(began.min(input.at)))).collect()
}

fn metric(family: &Family, began: &BTreeMap<&str, String>, at: &str) -> Json {
    let mut points: Vec<Json> = family.series.iter().map(|series| point(series, at)).collect();
    if family.kind != Kind::Gauge {
        for (point, series) in points.iter_mut().zip(&family.series) {
            let source = series.labels.iter().find(|(label, _)| *label == "source");
            if let Some(began) = source.and_then(|(_, name)| began.get(name.as_str())) {
                point["startTimeUnixNano"] = began.as_str().into();
            }
        }
    }
    let (name, description) = (family.name, family.help);
    match family.kind {
        Kind::Gauge => {
            json!({ "name": name, "description": description, "gauge": { "dataPoints": points } })
        }
        Kind::Counter => json!({
            "name": name,
            "description": description,
            "sum": {
                "dataPoints": points,
                "aggregationTemporality": CUMULATIVE,
                "isMonotonic": true,
            },
        }),
        Kind::Histogram => json!({
            "name": name,
            "description": description,
            "histogram": { "dataPoints": points, "aggregationTemporality": CUMULATIVE },
        }),
    }
}

fn point(Series { labels, value }: &Series, at: &str) -> Json {
    let attributes: Vec<Json> = labels.iter().map(|(key, value)| attribute(key, value)).collect();
    match value {
        Value::Number(number) => {
            json!({ "attributes": attributes, "timeUnixNano": at, "asDouble": number })
        }
        Value::Histogram { buckets, beyond, sum } => {
            let counts = buckets.iter().map(|(_, count)| count).chain([beyond]);
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
