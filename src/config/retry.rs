//! `[retry]`: the named policies of quick retries, each a preset with overrides.

use std::ops::RangeInclusive;
use std::time::Duration;

use cynosure_engine::user_input::closest_match;

use super::file::{Node, Table, Value, expected, plain_text};
use super::merge::EnvValueForm;
use super::ranges::{POSITIVE_COUNT, POSITIVE_DURATION};
use super::reader::{Reader, Section};
use super::request::RequestSettings;
use super::show::{quote, quote_key};
use crate::retry::{BackoffConfig, Jitter};

const POLICY_NAMES: [&str; 4] = ["request", "storage", "collect", "bus"];

const PRESETS: [(&str, BackoffConfig); 3] = [
    ("fast", BackoffConfig::FAST),
    ("moderate", BackoffConfig::MODERATE),
    ("strict", BackoffConfig::STRICT),
];

/// Growth per retry: below 1 the delays would shrink; above 10 the second would already be the
/// longest.
const MULTIPLIER_RANGE: RangeInclusive<f64> = 1.0..=10.0;

/// Scale of all delays: beyond this range, another base delay is clearer.
const BACKOFF_FACTOR_RANGE: RangeInclusive<f64> = 0.01..=100.0;

const JITTER_HELP: &str = "\"none\", \"full\" or a share from 0.0 to 1.0";

/// `[retry.NAME]`: number of attempts and the delays between them, per kind of operation.
#[derive(Clone, Debug, PartialEq)]
pub struct RetrySettings {
    /// An HTTP request.
    pub request: BackoffConfig,
    /// A call on the ledger or the archive.
    pub storage: BackoffConfig,
    /// A page of the listing.
    pub collect: BackoffConfig,
    /// A call over D-Bus.
    pub bus: BackoffConfig,
}

/// Reads the four tables. Without a preset, `[retry.request]` starts from `[request]`.
pub(super) fn read_retry(reader: &mut Reader<'_>, request: &RequestSettings) -> RetrySettings {
    let mut tables = reader.table("retry");
    let [request_table, storage_table, collect_table, bus_table] =
        POLICY_NAMES.map(|name| take_policy_table(reader, &mut tables, name));
    for (name, node) in tables {
        let remedy = match closest_match(&name, POLICY_NAMES) {
            Some(known) => format!("did you mean [retry.{known}]?"),
            None => format!("the policies are {}", POLICY_NAMES.join(", ")),
        };
        let message = format!("unknown policy `retry.{}`; {remedy}", quote_key(&name));
        reader.report_error(node.location, message);
    }
    let request_default = BackoffConfig {
        max_attempts: request.attempts,
        base_delay: request.delay,
        max_delay: request.max_delay,
        ..BackoffConfig::FAST
    };
    RetrySettings {
        request: read_policy(reader, "request", request_table, ("fast", request_default)),
        storage: read_policy(reader, "storage", storage_table, ("fast", BackoffConfig::FAST)),
        collect: read_policy(reader, "collect", collect_table, ("strict", BackoffConfig::STRICT)),
        bus: read_policy(reader, "bus", bus_table, ("fast", BackoffConfig::FAST)),
    }
}

fn take_policy_table(reader: &mut Reader<'_>, tables: &mut Table, name: &str) -> Table {
    let node = tables.remove(name);
    node.and_then(|node| reader.as_table(&format!("retry.{name}"), node)).unwrap_or_default()
}

/// Reads one policy. `default` is the name and the values of the preset used if none is chosen.
fn read_policy(
    reader: &mut Reader<'_>,
    name: &str,
    table: Table,
    default: (&'static str, BackoffConfig),
) -> BackoffConfig {
    reader.section(&format!("retry.{name}"), table, |table| {
        let given = table.given("preset", EnvValueForm::Text, parse_preset);
        let (_, base) = table.given_or_default("preset", given, default, |(name, _)| quote(name));
        let config = BackoffConfig {
            max_attempts: table.count("max_attempts", base.max_attempts, POSITIVE_COUNT),
            base_delay: table.duration("base_delay", base.base_delay, POSITIVE_DURATION),
            max_delay: table.duration("max_delay", base.max_delay, POSITIVE_DURATION),
            multiplier: table.number("multiplier", base.multiplier, MULTIPLIER_RANGE),
            backoff_factor: table.number(
                "backoff_factor",
                base.backoff_factor,
                BACKOFF_FACTOR_RANGE,
            ),
            jitter: read_jitter(table, base.jitter),
        };
        let (base, max): (Duration, Duration) = (config.base_delay, config.max_delay);
        table.check_order([("base_delay", base), ("max_delay", max)]);
        config
    })
}

fn parse_preset(node: &Node) -> Result<(&'static str, BackoffConfig), String> {
    let text = plain_text(&node.value)?;
    PRESETS
        .into_iter()
        .find(|(name, _)| *name == text)
        .ok_or_else(|| expected(&node.value, "\"fast\", \"moderate\" or \"strict\""))
}

fn read_jitter(table: &mut Section<'_, '_>, default: Jitter) -> Jitter {
    let given = table.given("jitter", EnvValueForm::Toml, |node| {
        let jitter = match &node.value {
            Value::Text(text) if text == "none" => Some(Jitter::None),
            Value::Text(text) if text == "full" => Some(Jitter::Full),
            Value::Text(_)
            | Value::Integer(_)
            | Value::Float(_)
            | Value::Flag(_)
            | Value::Date(_)
            | Value::List(_)
            | Value::Table(_) => {
                let share = node.value.number();
                share.filter(|share| (0.0..=1.0).contains(share)).map(Jitter::Proportional)
            }
        };
        jitter.ok_or_else(|| expected(&node.value, JITTER_HELP))
    });
    table.given_or_default("jitter", given, default, |jitter| match jitter {
        Jitter::None => quote("none"),
        Jitter::Full => quote("full"),
        Jitter::Proportional(share) => format!("{share:?}"),
    })
}
