//! The same metrics as JSON, for programs that have no reader of the text.

use serde_json::{Map, Value as Json, json};

use crate::telemetry::{Family, Input, Series, Value, families};

/// Writes all metrics: a member for each, with its type, what it means, and its series.
#[must_use]
pub fn json(input: &Input) -> Json {
    let metrics: Map<String, Json> = families(input).iter().map(member).collect();
    json!({ "at": input.at.to_string(), "metrics": metrics })
}

fn member(family: &Family) -> (String, Json) {
    let series: Vec<Json> = family.series.iter().map(one).collect();
    let json = json!({ "type": family.kind.name(), "help": family.help, "series": series });
    (family.name.to_owned(), json)
}

fn one(Series { labels, value }: &Series) -> Json {
    let labels: Map<String, Json> = labels
        .iter()
        .map(|(name, value)| ((*name).to_owned(), Json::from(value.as_str())))
        .collect();
    match value {
        Value::Number(number) => json!({ "labels": labels, "value": number }),
        Value::Histogram { buckets, beyond, sum } => json!({
            "labels": labels,
            "count": value.count(),
            "sum": sum,
            "beyond": beyond,
            "buckets": buckets
                .iter()
                .map(|(bound, count)| json!({ "up_to": bound, "count": count }))
                .collect::<Vec<_>>(),
        }),
    }
}
