//! Metrics as JSON, for programs that cannot parse the text format.

use std::collections::BTreeMap;

use cynosure_engine::Timestamp;
use serde::Serialize;
use serde_json::Value;

use crate::telemetry::{MetricFamily, MetricSeries, MetricValue, MetricsSnapshot, families};

#[derive(Serialize)]
struct MetricsJson<'a> {
    at: Timestamp,
    /// Metric families by name.
    metrics: BTreeMap<&'static str, FamilyJson<'a>>,
}

/// One metric with all its series.
#[derive(Serialize)]
struct FamilyJson<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    help: &'static str,
    series: Vec<SeriesJson<'a>>,
}

#[derive(Serialize)]
struct SeriesJson<'a> {
    labels: BTreeMap<&'static str, &'a str>,
    #[serde(flatten)]
    value: ValueJson,
}

#[derive(Serialize)]
#[serde(untagged)]
enum ValueJson {
    Number {
        value: f64,
    },
    Histogram {
        count: Option<u64>,
        /// Sum of all values, in seconds.
        sum: f64,
        /// Number of values beyond the last bound.
        #[serde(rename = "beyond")]
        overflow: u64,
        buckets: Vec<BucketJson>,
    },
}

#[derive(Serialize)]
struct BucketJson {
    /// Upper bound, in seconds.
    #[serde(rename = "up_to")]
    upper_bound: f64,
    /// Number of values between this bound and the one before.
    count: u64,
}

/// Returns all metrics: a member for each, with its type, description and series.
#[must_use]
pub fn to_json(input: &MetricsSnapshot) -> Value {
    let families = families(input);
    let metrics = families.iter().map(|family| (family.name, family_json(family)));
    let json = MetricsJson { at: input.taken_at, metrics: metrics.collect() };
    // Serialization cannot fail: all keys are strings.
    serde_json::to_value(json).unwrap_or_default()
}

fn family_json(family: &MetricFamily) -> FamilyJson<'_> {
    FamilyJson {
        kind: family.kind.name(),
        help: family.help,
        series: family.series.iter().map(series_json).collect(),
    }
}

fn series_json(MetricSeries { labels, value }: &MetricSeries) -> SeriesJson<'_> {
    SeriesJson {
        labels: labels.iter().map(|(name, value)| (*name, value.as_str())).collect(),
        value: value_json(value),
    }
}

fn value_json(value: &MetricValue) -> ValueJson {
    match value {
        MetricValue::Number(number) => ValueJson::Number { value: *number },
        MetricValue::Histogram { buckets, overflow, sum } => ValueJson::Histogram {
            count: value.count(),
            sum: *sum,
            overflow: *overflow,
            buckets: buckets
                .iter()
                .map(|(upper_bound, count)| BucketJson { upper_bound: *upper_bound, count: *count })
                .collect(),
        },
    }
}
