//! Limits of an API: `[pace]` and `[quota]`, with the named quotas of which a source selects one.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::time::Duration;

use cynosure_engine::rate_limit::Rate;
use cynosure_engine::rest::TableName;
use cynosure_engine::user_input::{Location, closest_match};

use crate::config::file::{Node, describe};
use crate::config::kind::rest::nodes::{TableNode, TableNodes, quoted_names};
use crate::config::kind::rest::settings::RestLimits;
use crate::config::kind::rest::values::{read_map, take_table};
use crate::config::merge::EnvValueForm;
use crate::config::ranges::POSITIVE_DURATION;
use crate::config::reader::{Reader, Section};
use crate::config::request::CONCURRENCY_RANGE;
use crate::config::show::{quote, quote_key};

/// Keys of the units that are granted per time.
const RATES: [(&str, Duration); 4] = [
    ("per_second", Duration::from_secs(1)),
    ("per_minute", Duration::from_secs(60)),
    ("per_10_minutes", Duration::from_secs(600)),
    ("per_day", Duration::from_secs(86_400)),
];

/// Units that one request may cost.
const WEIGHT_RANGE: RangeInclusive<u32> = 1..=1_000_000;

/// Units that a request of a table costs.
pub(super) type Weights = BTreeMap<TableName, u32>;

/// Quota: its rate, and the units that requests cost.
#[derive(Clone, Debug, Default)]
struct Quota {
    rate: Option<Rate>,
    weights: Weights,
}

/// Reads `[pace]` and `[quota]`.
pub(super) fn read_limits(
    reader: &mut Reader<'_>,
    nodes: &mut TableNodes,
) -> (RestLimits, Weights) {
    let pace = nodes.take("pace").and_then(|table| read_pace(reader, table));
    let (in_flight, interval) = pace.unwrap_or_default();
    let preset = nodes.quota_preset.take();
    let quota = read_quota(reader, nodes.take("quota"), preset);
    let pace_rate = interval.map(|interval| Rate::from_units(1.0, interval));
    let cap = match (quota.rate, pace_rate) {
        (Some(quota), Some(pace)) => Some(quota.min(pace)),
        (rate, None) | (None, rate) => rate,
    };
    (RestLimits { in_flight, cap }, quota.weights)
}

fn read_pace(reader: &mut Reader<'_>, table: TableNode) -> Option<(Option<u32>, Option<Duration>)> {
    let TableNode { name, node } = table;
    let table = reader.as_table(&name, node)?;
    Some(reader.section(&name, table, |pace| {
        let (least, most) = (CONCURRENCY_RANGE.start(), CONCURRENCY_RANGE.end());
        let want = format!("a whole number from {least} to {most}");
        let in_flight = pace.value("in_flight", EnvValueForm::Toml, &want, |value| {
            let count = value.integer().and_then(|number| u32::try_from(number).ok());
            count.filter(|count| CONCURRENCY_RANGE.contains(count))
        });
        let every = pace.duration_if_given("every", POSITIVE_DURATION);
        (in_flight.map(|(count, _)| count), every)
    }))
}

fn read_quota(
    reader: &mut Reader<'_>,
    table: Option<TableNode>,
    preset: Option<(String, Location)>,
) -> Quota {
    let entries =
        table.and_then(|TableNode { name, node }| Some((reader.as_table(&name, node)?, name)));
    let Some((entries, name)) = entries else {
        if let Some((preset, location)) = preset {
            report_unknown_preset(reader, &preset, location, &BTreeMap::new());
        }
        return Quota::default();
    };
    let (mut quota, presets) = reader.section(&name, entries, |table| {
        let presets = take_table(table, "presets").unwrap_or_default();
        (read_rates(table), presets)
    });
    let mut named = BTreeMap::new();
    for (preset, node) in presets {
        let name = format!("{name}.presets.{}", quote_key(&preset));
        let Some(table) = reader.as_table(&name, node) else { continue };
        let found = reader.section(&name, table, read_rates);
        named.insert(preset, found);
    }
    if let Some((preset, location)) = preset {
        match named.remove(&preset) {
            Some(selected) => {
                quota.rate = selected.rate.or(quota.rate);
                quota.weights.extend(selected.weights);
            }
            None => report_unknown_preset(reader, &preset, location, &named),
        }
    }
    quota
}

fn report_unknown_preset(
    reader: &mut Reader<'_>,
    preset: &str,
    location: Location,
    known: &BTreeMap<String, Quota>,
) {
    let names = known.keys().map(String::as_str);
    let remedy = match closest_match(preset, names.clone()) {
        Some(known) => format!("did you mean {}?", quote(known)),
        None if known.is_empty() => {
            "the profile has none; write the limits of the service: quota = { per_minute = 600 }"
                .to_owned()
        }
        None => format!("the profile has {}", quoted_names(names)),
    };
    let message =
        format!("`quota` is {}, which is no quota of the profile; {remedy}", quote(preset));
    reader.report_error(location, message);
}

/// Reads the rates and the weights of a quota.
fn read_rates(table: &mut Section<'_, '_>) -> Quota {
    let mut rate: Option<Rate> = None;
    for (key, duration) in RATES {
        let given = table.value(key, EnvValueForm::Toml, "a number of units above 0", |value| {
            value.number().filter(|units| 0.0 < *units && units.is_finite())
        });
        if let Some((units, _)) = given {
            let found = Rate::from_units(units, duration);
            rate = Some(rate.map_or(found, |rate| rate.min(found)));
        }
    }
    let weights = read_map(table, "weights", read_weight);
    Quota { rate, weights: weights.into_iter().map(|(_, weight)| weight).collect() }
}

/// Reads the units that a request of a table costs.
fn read_weight(name: &str, node: &Node) -> Result<(TableName, u32), String> {
    let names = TableName::ALL.map(TableName::name);
    let Some(table) = TableName::ALL.into_iter().find(|table| table.name() == name) else {
        return Err(match closest_match(name, names) {
            Some(known) => format!("is no table with requests; did you mean `{known}`?"),
            None => format!("is no table with requests; they are {}", names.join(", ")),
        });
    };
    let weight = node.value.integer().and_then(|number| u32::try_from(number).ok());
    let weight = weight.filter(|weight| WEIGHT_RANGE.contains(weight)).ok_or_else(|| {
        let (least, most) = (WEIGHT_RANGE.start(), WEIGHT_RANGE.end());
        format!("is {}; write a whole number from {least} to {most}", describe(&node.value))
    })?;
    Ok((table, weight))
}
