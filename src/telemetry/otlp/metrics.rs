//! Metrics for a collector.

use serde_json::{Value as Json, json};

use crate::telemetry::otlp::{attribute, nanoseconds, scope, whose};
use crate::telemetry::{Family, Input, Kind, Resource, Series, Value, families};

/// Counts and histograms hold everything since counting began. When that was is written down
/// nowhere, and may be lives ago: `startTimeUnixNano` is left out, which says that it is not known,
/// and collectors find a beginning from zero by the values themselves.
const CUMULATIVE: u8 = 2;

/// Writes an `ExportMetricsServiceRequest` with all metrics.
#[must_use]
pub fn metrics(input: &Input, resource: &Resource) -> Json {
    let at = nanoseconds(input.at);
    let metrics: Vec<Json> = families(input).iter().map(|family| metric(family, &at)).collect();
    json!({ "resourceMetrics": [{
        "resource": whose(resource),
        "scopeMetrics": [{ "scope": scope(resource.version), "metrics": metrics }],
    }] })
}

fn metric(family: &Family, at: &str) -> Json {
    let points: Vec<Json> = family.series.iter().map(|series| point(series, at)).collect();
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
