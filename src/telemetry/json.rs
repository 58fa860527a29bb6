//! Metrics as JSON, for programs that cannot parse the text format.

use serde_json::{Map, Value as Json, json};

use crate::telemetry::{MetricFamily, MetricSeries, MetricValue, MetricsSnapshot, families};

/// Returns all metrics: a member for each, with its type, description and series.
#[must_use]
pub fn to_json(input: &MetricsSnapshot) -> Json {
    let metrics: Map<String, Json> = families(input).iter().map(family_to_json).collect();
    json!({ "at": input.taken_at.to_string(), "metrics": metrics })
}

fn family_to_json(family: &MetricFamily) -> (String, Json) {
    let series: Vec<Json> = family.series.iter().map(series_to_json).collect();
    let json = json!({ "type": family.kind.name(), "help": family.help, "series": series });
    (family.name.to_owned(), json)
}

fn series_to_json(MetricSeries { labels, value }: &MetricSeries) -> Json {
    let labels: Map<String, Json> = labels
        .iter()
        .map(|(name, value)| ((*name).to_owned(), Json::from(value.as_str())))
        .collect();
    match value {
        MetricValue::Number(number) => json!({ "labels": labels, "value": number }),
        MetricValue::Histogram { buckets, overflow, sum } => json!({
            "labels": labels,
            "count": value.count(),
            "sum": sum,
            "beyond": overflow,
            "buckets": buckets
                .iter()
                .map(|(bound, count)| json!({ "up_to": bound, "count": count }))
                .collect::<Vec<_>>(),
        }),
    }
}
