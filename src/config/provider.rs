//! Settings of one provider: `[provider.NAME]`.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::time::Duration;

use cynosure_engine::ErrorRule;
use cynosure_engine::rate_limit::{HeaderNames, Rate, RateLimitMode, ResetMeaning, RouteCost};
use cynosure_engine::user_input::closest_match;

use super::error_rules;
use super::file::{Node, Table, Value, describe, plain_text};
use super::merge::EnvValueForm;
use super::preset::DEFAULT_CONNECTIONS;
use super::provider_defaults::ProviderDefaults;
use super::reader::{Reader, Section};
use super::request::{CONCURRENCY_RANGE, RequestSettings};
use super::show::{quote, quote_key};
use super::source::{SourceName, SourceSettings};

/// Largest reserve: with more than 0.9 of the quota left to others, too little remains to adapt to.
const RESERVE_MAX: f64 = 0.9;

const MAX_WAIT_RANGE: RangeInclusive<Duration> =
    Duration::from_secs(1)..=Duration::from_secs(366 * 86_400);

/// Connections of one account: each holds buffers, and no mail server allows more.
const CONNECTIONS_RANGE: RangeInclusive<u32> = 1..=64;

/// Range of the bytes of a day. One message may have more than the least, and more than the most is
/// a typo.
const DAILY_BYTES_RANGE: RangeInclusive<u64> = 1_000_000..=1 << 40;

/// Units that one request may cost.
const WEIGHT_RANGE: RangeInclusive<i64> = 1..=1_000_000;

const MODES: [(&str, RateLimitMode); 3] = [
    ("follow", RateLimitMode::Adaptive),
    ("fixed", RateLimitMode::Fixed),
    ("off", RateLimitMode::Off),
];

const RATE_LIMIT_SCOPES: [(&str, RateLimitScope); 2] =
    [("provider", RateLimitScope::Provider), ("account", RateLimitScope::Account)];

const RESET_MEANINGS: [(&str, Option<ResetMeaning>); 6] = [
    ("auto", None),
    ("seconds", Some(ResetMeaning::DeltaSeconds)),
    ("milliseconds", Some(ResetMeaning::DeltaMillis)),
    ("epoch_seconds", Some(ResetMeaning::EpochSeconds)),
    ("epoch_milliseconds", Some(ResetMeaning::EpochMillis)),
    ("date", Some(ResetMeaning::Date)),
];

const ROUTE_KEYS: [&str; 3] = ["path", "weight", "budget"];
const ROUTE_HELP: &str = "write { path = \"/v1/messages/*\", weight = 20 }, and add budget = \
                          \"6000/min\" if the route has a separate budget";

/// Settings of one provider: rate limits, routes and error rules.
#[derive(Clone, Debug, PartialEq)]
pub struct ProviderSettings {
    /// Requests in flight at once.
    pub concurrency: u32,
    /// Connections of one account at once, for kinds that log in on a connection.
    pub connections: u32,
    /// Bytes of documents that may be received in any 24 hours; `None` for no limit.
    pub bytes_per_day: Option<u64>,
    pub mode: RateLimitMode,
    /// Highest rate, in units per second; always set if the mode is fixed.
    pub cap: Option<Rate>,
    /// Share of the quota that is left to other programs, from 0.0 to 0.9.
    pub reserve: f64,
    pub max_wait: Duration,
    pub rate_limit_scope: RateLimitScope,
    pub headers: HeaderNames,
    /// The first route whose path matches applies; a request that matches none costs one unit.
    pub routes: Vec<RouteCost>,
    /// In the order in which they are tried.
    pub error_rules: Vec<ErrorRule>,
}

/// Set of sources that share one quota.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum RateLimitScope {
    /// All sources of the provider.
    Provider,
    /// The sources of one account.
    Account,
}

impl ProviderSettings {
    /// Returns the settings of a provider that the configuration does not name.
    #[must_use]
    pub fn with_defaults(request: &RequestSettings) -> Self {
        Self {
            concurrency: request.concurrency,
            connections: DEFAULT_CONNECTIONS,
            bytes_per_day: None,
            mode: RateLimitMode::Adaptive,
            cap: None,
            reserve: 0.0,
            max_wait: Duration::from_secs(3600),
            rate_limit_scope: RateLimitScope::Provider,
            headers: HeaderNames::default(),
            routes: Vec::new(),
            error_rules: Vec::new(),
        }
    }
}

/// Reads the tables of the providers, and lists those that only a preset or a profile has settings
/// for.
pub(super) fn read_providers(
    reader: &mut Reader<'_>,
    request: &RequestSettings,
    sources: &BTreeMap<SourceName, SourceSettings>,
) -> BTreeMap<String, ProviderSettings> {
    let mut tables = reader.table("provider");
    let has_defaults = |source: &&SourceSettings| source.kind.provider_defaults().is_some();
    let default_names = sources.values().filter(has_defaults).map(|source| source.provider.clone());
    let names: BTreeSet<String> = tables.keys().cloned().chain(default_names).collect();
    let mut providers = BTreeMap::new();
    for name in names {
        let table_name = format!("provider.{}", quote_key(&name));
        let table = match tables.remove(&name) {
            Some(node) => reader.as_table(&table_name, node),
            None => Some(Table::new()),
        };
        let Some(table) = table else { continue };
        let provider_sources: Vec<_> =
            sources.iter().filter(|(_, source)| source.provider == name).collect();
        let defaults = merged_defaults(&provider_sources);
        let provider = reader
            .section(&table_name, table, |table| read_provider(table, request, defaults.as_ref()));
        reject_different_defaults(reader, &table_name, &provider_sources);
        reject_unused_connections(reader, &table_name, &provider_sources);
        providers.insert(name, provider);
    }
    providers
}

/// Returns the defaults of all sources of a provider: of each setting, that of the first source that
/// has one.
fn merged_defaults(sources: &[(&SourceName, &SourceSettings)]) -> Option<ProviderDefaults> {
    let defaults = sources.iter().filter_map(|(_, source)| source.kind.provider_defaults());
    defaults.reduce(|first, other| ProviderDefaults {
        connections: first.connections.or(other.connections),
        concurrency: first.concurrency.or(other.concurrency),
        bytes_per_day: first.bytes_per_day.or(other.bytes_per_day),
        cap: first.cap.or(other.cap),
        ..first
    })
}

/// Rejects sources of one provider whose presets or profiles differ in a setting that the table of
/// the provider leaves out, because one of them would not get the limit that its server has.
fn reject_different_defaults(
    reader: &mut Reader<'_>,
    table: &str,
    sources: &[(&SourceName, &SourceSettings)],
) {
    let with_defaults =
        sources.iter().filter_map(|(name, source)| Some((name, source.kind.provider_defaults()?)));
    let with_defaults: Vec<_> = with_defaults.collect();
    let Some(((first_name, first), others)) = with_defaults.split_first() else { return };
    for (name, other) in others {
        let open: Vec<&str> = different_settings(first, other)
            .into_iter()
            .filter(|key| reader.location_of(table, key).is_none())
            .collect();
        if open.is_empty() {
            continue;
        }
        // Presets with different limits have different names, so one source names its provider.
        // Profiles may be of one server.
        let location = ["provider", "kind"].into_iter().find_map(|key| {
            [name, first_name].into_iter().find_map(|name| {
                reader.location_of(&format!("source.{}", quote_key(name.as_str())), key)
            })
        });
        let message = format!(
            "`source.{first_name}` and `source.{name}` have one provider, but {} differ in {open}; \
             set {open} in [{table}], which then applies to both",
            first.origin.name_both(&other.origin),
            open = open.join(" and "),
        );
        if let Some(location) = location {
            reader.report_error(location, message);
        }
    }
}

/// Returns the keys of the settings in which defaults differ. Connections and requests are limited
/// for different kinds of sources, so each is compared only where both have it.
fn different_settings(first: &ProviderDefaults, other: &ProviderDefaults) -> Vec<&'static str> {
    let differs = |one: Option<u32>, other: Option<u32>| {
        one.zip(other).is_some_and(|(one, other)| one != other)
    };
    let keys = [
        ("connections", differs(first.connections, other.connections)),
        ("concurrency", differs(first.concurrency, other.concurrency)),
        ("bytes_per_day", first.bytes_per_day != other.bytes_per_day),
        ("cap", first.cap != other.cap),
    ];
    keys.into_iter().filter(|(_, differs)| *differs).map(|(key, _)| key).collect()
}

/// Rejects a number of connections for a provider none of whose sources counts them, and does not
/// show its default.
fn reject_unused_connections(
    reader: &mut Reader<'_>,
    table: &str,
    sources: &[(&SourceName, &SourceSettings)],
) {
    if sources.is_empty() || !sources.iter().all(|(_, source)| source.kind.uses_http()) {
        return;
    }
    if let Some(location) = reader.location_of(table, "connections") {
        let message = format!(
            "`{table}.connections` limits the connections of IMAP sources, and the provider has \
             none; write `concurrency`, which limits the requests in flight over HTTP"
        );
        reader.report_error(location, message);
    }
    reader.effective_settings.retain(|entry| entry.table != table || entry.key != "connections");
}

fn read_provider(
    table: &mut Section<'_, '_>,
    request: &RequestSettings,
    source_defaults: Option<&ProviderDefaults>,
) -> ProviderSettings {
    let defaults = ProviderSettings::with_defaults(request);
    let concurrency = source_defaults.and_then(|defaults| defaults.concurrency);
    let concurrency = concurrency.unwrap_or(defaults.concurrency);
    let concurrency = table.count("concurrency", concurrency, CONCURRENCY_RANGE);
    let connections = source_defaults.and_then(|defaults| defaults.connections);
    let connections = connections.unwrap_or(defaults.connections);
    let connections = table.count("connections", connections, CONNECTIONS_RANGE);
    let bytes_per_day = source_defaults.and_then(|defaults| defaults.bytes_per_day);
    let bytes_per_day = table.optional_size("bytes_per_day", bytes_per_day, DAILY_BYTES_RANGE);
    let mode = table.choice("mode", "follow", &MODES);
    let cap = table.rate("cap", source_defaults.and_then(|defaults| defaults.cap));
    let reserve = table.number("reserve", 0.0, 0.0..=RESERVE_MAX);
    let max_wait = table.duration("max_wait", defaults.max_wait, MAX_WAIT_RANGE);
    let is_per_account = source_defaults.is_some_and(|defaults| defaults.is_per_account);
    let default_scope = if is_per_account { "account" } else { "provider" };
    let rate_limit_scope = table.choice("quota_of", default_scope, &RATE_LIMIT_SCOPES);
    let limit = read_header_name(table, "limit_header");
    let remaining = read_header_name(table, "remaining_header");
    let reset = read_header_name(table, "reset_header");
    let reset_meaning = table.choice("reset_means", "auto", &RESET_MEANINGS);
    let routes = read_routes(table);
    let error_rules = error_rules::read_rules(table);
    if mode == RateLimitMode::Fixed && cap.is_none() {
        let message = format!(
            "`{}` is \"fixed\", which needs a rate; add cap = \"600/min\"",
            table.key("mode")
        );
        table.report_setting("mode", message);
    }
    if let Some(defaults) = source_defaults {
        record_origins(table, defaults);
    }
    let headers = HeaderNames { limit, remaining, reset, reset_meaning };
    ProviderSettings {
        concurrency,
        connections,
        bytes_per_day,
        mode,
        cap,
        reserve,
        max_wait,
        rate_limit_scope,
        headers,
        routes,
        error_rules,
    }
}

/// Records which settings the sources of the provider fill.
fn record_origins(table: &mut Section<'_, '_>, defaults: &ProviderDefaults) {
    let filled = [
        ("connections", defaults.connections.is_some()),
        ("concurrency", defaults.concurrency.is_some()),
        ("bytes_per_day", defaults.bytes_per_day.is_some()),
        ("cap", defaults.cap.is_some()),
        ("quota_of", defaults.is_per_account),
    ];
    for (key, _) in filled.into_iter().filter(|(_, is_filled)| *is_filled) {
        table.record_origin(key, &defaults.origin);
    }
}

fn read_header_name(table: &mut Section<'_, '_>, key: &'static str) -> Option<String> {
    let given = table.given(key, EnvValueForm::Text, |node| {
        let name = plain_text(&node.value)?;
        // RFC 9110, section 5.6.2: a token.
        let is_token =
            name.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b));
        is_token.then(|| name.to_ascii_lowercase()).ok_or_else(|| {
            format!("is {}, which is not a header name; write \"X-Quota-Left\"", quote(name))
        })
    });
    let (name, location) = given.unzip();
    table.record(key, name.as_deref().map(quote), location);
    name
}

fn read_routes(table: &mut Section<'_, '_>) -> Vec<RouteCost> {
    let given = table.given("routes", EnvValueForm::Toml, |node| {
        let Value::List(items) = &node.value else {
            return Err(format!(
                "is {}; write routes = [{{ … }}]: {ROUTE_HELP}",
                describe(&node.value)
            ));
        };
        items.iter().map(read_route).collect::<Result<Vec<_>, _>>()
    });
    table.given_or_default("routes", given, Vec::new(), |routes| {
        let routes: Vec<String> = routes.iter().map(write_route).collect();
        format!("[{}]", routes.join(", "))
    })
}

fn read_route(node: &Node) -> Result<RouteCost, String> {
    let Value::Table(table) = &node.value else {
        return Err(format!("holds {}; {ROUTE_HELP}", describe(&node.value)));
    };
    if let Some(key) = table.keys().find(|key| !ROUTE_KEYS.contains(&key.as_str())) {
        let remedy = closest_match(key, ROUTE_KEYS).map(|known| format!("did you mean `{known}`?"));
        let remedy = remedy.unwrap_or_else(|| ROUTE_HELP.to_owned());
        return Err(format!("has a route with an unknown key `{}`; {remedy}", quote_key(key)));
    }
    let path = read_text(table, "path")?
        .ok_or_else(|| format!("has a route without `path`; {ROUTE_HELP}"))?;
    if !path.starts_with(['/', '*']) {
        return Err(format!("has a path {} that does not begin with /; {ROUTE_HELP}", quote(path)));
    }
    let cost = match table.get("weight").map(|node| node.value.integer()) {
        None => 1,
        Some(Some(weight)) if WEIGHT_RANGE.contains(&weight) => u32::try_from(weight).unwrap_or(1),
        Some(_) => {
            let (least, most) = (WEIGHT_RANGE.start(), WEIGHT_RANGE.end());
            return Err(format!("has a weight that is not a whole number from {least} to {most}"));
        }
    };
    let budget = read_text(table, "budget")?
        .map(|text| text.parse::<Rate>().map_err(|error| format!("has a budget: {error}")))
        .transpose()?;
    Ok(RouteCost { path: path.to_owned(), cost, budget })
}

fn read_text<'t>(table: &'t Table, key: &str) -> Result<Option<&'t str>, String> {
    let node = table.get(key);
    let text = node
        .map(|node| plain_text(&node.value).map_err(|error| format!("has a {key} that {error}")));
    text.transpose()
}

fn write_route(route: &RouteCost) -> String {
    let budget = route.budget.map(|rate| format!(", budget = \"{rate}\"")).unwrap_or_default();
    format!("{{ path = {}, weight = {}{budget} }}", quote(&route.path), route.cost)
}
