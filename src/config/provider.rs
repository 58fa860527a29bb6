//! What differs for one provider: `[provider.NAME]`.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::time::Duration;

use super::ask::{describe, plain_text};
use super::error_rules;
use super::file::{Node, Table, Value};
use super::merge::Variable;
use super::reader::{Reader, Section};
use super::settings::RequestSettings;
use super::show::{quote, quote_key};
use super::suggest::closest_match;
use crate::engine::ErrorRule;
use crate::engine::rate_limit::{HeaderNames, Rate, RateLimitMode, ResetMeaning};

/// Requests in flight: a document of each is in memory in part, and no mail server allows more.
pub(super) const CONCURRENCY_RANGE: RangeInclusive<u32> = 1..=64;

/// What is left to others: with more than nine tenths of it gone, there is nothing to follow.
const RESERVE_MAX: f64 = 0.9;

const MAX_WAIT_RANGE: RangeInclusive<Duration> =
    Duration::from_secs(1)..=Duration::from_secs(366 * 86_400);

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
const ROUTE_HELP: &str = "write { path = \"/v1/messages/*\", weight = 20 }, and budget = \"6000/min\" \
                          in it where the route has a budget of its own";

/// What is known of a provider beforehand.
#[derive(Clone, Debug, PartialEq)]
pub struct ProviderSettings {
    /// Requests in flight at once.
    pub concurrency: u32,
    pub mode: RateLimitMode,
    /// In units per second; always there when the mode is fixed.
    pub cap: Option<Rate>,
    /// The share of the quota that is left to others, from 0.0 to 0.9.
    pub reserve: f64,
    pub max_wait: Duration,
    pub rate_limit_scope: RateLimitScope,
    pub headers: HeaderNames,
    /// The first whose path matches counts; a request that none matches costs one unit.
    pub routes: Vec<RouteWeight>,
    /// In the order in which they are tried.
    pub error_rules: Vec<ErrorRule>,
}

/// Who draws on one quota.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum RateLimitScope {
    /// All sources of the provider.
    Provider,
    /// The sources of one account.
    Account,
}

/// Requests that cost more than one unit, or have a budget of their own.
#[derive(Clone, Debug, PartialEq)]
pub struct RouteWeight {
    /// The path of the URL, in which `*` stands for any characters.
    pub path: String,
    pub weight: u32,
    /// A quota apart from the provider's, in units per second.
    pub budget: Option<Rate>,
}

impl ProviderSettings {
    /// A provider of which the configuration says nothing.
    #[must_use]
    pub fn with_defaults(request: &RequestSettings) -> Self {
        Self {
            concurrency: request.concurrency,
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

    /// Returns the first route that a path is on.
    #[must_use]
    pub fn find_route(&self, path: &str) -> Option<&RouteWeight> {
        self.routes.iter().find(|route| matches_pattern(&route.path, path))
    }
}

/// Whether `path` is what `pattern` describes, a `*` in it being any characters.
fn matches_pattern(pattern: &str, path: &str) -> bool {
    let Some((head, rest)) = pattern.split_once('*') else { return pattern == path };
    let Some(mut left) = path.strip_prefix(head) else { return false };
    let mut pieces: Vec<&str> = rest.split('*').collect();
    let tail = pieces.pop().unwrap_or_default();
    for piece in pieces {
        let Some(at) = left.find(piece) else { return false };
        left = &left[at + piece.len()..];
    }
    left.ends_with(tail)
}

pub(super) fn read_providers(
    reader: &mut Reader<'_>,
    request: &RequestSettings,
) -> BTreeMap<String, ProviderSettings> {
    let mut providers = BTreeMap::new();
    for (name, node) in reader.table("provider") {
        let table_name = format!("provider.{}", quote_key(&name));
        let Some(table) = reader.as_table(&table_name, node) else { continue };
        let provider = reader.section(&table_name, table, |table| read_provider(table, request));
        providers.insert(name, provider);
    }
    providers
}

fn read_provider(table: &mut Section<'_, '_>, request: &RequestSettings) -> ProviderSettings {
    let unnamed = ProviderSettings::with_defaults(request);
    let concurrency = table.count("concurrency", unnamed.concurrency, CONCURRENCY_RANGE);
    let mode = table.choice("mode", "follow", &MODES);
    let cap = table.rate("cap");
    let reserve = table.number("reserve", 0.0, 0.0..=RESERVE_MAX);
    let max_wait = table.duration("max_wait", unnamed.max_wait, MAX_WAIT_RANGE);
    let shared_by = table.choice("quota_of", "provider", &RATE_LIMIT_SCOPES);
    let limit = read_header_name(table, "limit_header");
    let remaining = read_header_name(table, "remaining_header");
    let reset = read_header_name(table, "reset_header");
    let reset_means = table.choice("reset_means", "auto", &RESET_MEANINGS);
    let routes = read_routes(table);
    let error_rules = error_rules::read_rules(table);
    if mode == RateLimitMode::Fixed && cap.is_none() {
        let what = format!(
            "`{}` is \"fixed\", which needs a rate; write cap = \"600/min\" beside it",
            table.key("mode")
        );
        table.refuse_entry("mode", what);
    }
    let headers = HeaderNames { limit, remaining, reset, reset_meaning: reset_means };
    ProviderSettings {
        concurrency,
        mode,
        cap,
        reserve,
        max_wait,
        rate_limit_scope: shared_by,
        headers,
        routes,
        error_rules,
    }
}

fn read_header_name(table: &mut Section<'_, '_>, key: &'static str) -> Option<String> {
    let given = table.given(key, Variable::Text, |node| {
        let name = plain_text(&node.value)?;
        // RFC 9110, section 5.6.2: a token.
        let is_token =
            name.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b));
        is_token.then(|| name.to_ascii_lowercase()).ok_or_else(|| {
            format!("{} is no name of a header; write \"X-Quota-Left\"", quote(name))
        })
    });
    let (name, place) = given.unzip();
    table.enter(key, name.as_deref().map(quote), place);
    name
}

fn read_routes(table: &mut Section<'_, '_>) -> Vec<RouteWeight> {
    let given = table.given("routes", Variable::Toml, |node| {
        let Value::List(items) = &node.value else {
            return Err(format!(
                "is {}; write routes = [{{ … }}]: {ROUTE_HELP}",
                describe(&node.value)
            ));
        };
        items.iter().map(read_route).collect::<Result<Vec<_>, _>>()
    });
    table.settle("routes", given, Vec::new(), |routes| {
        let routes: Vec<String> = routes.iter().map(write_route).collect();
        format!("[{}]", routes.join(", "))
    })
}

fn read_route(node: &Node) -> Result<RouteWeight, String> {
    let Value::Table(table) = &node.value else {
        return Err(format!("holds {}; {ROUTE_HELP}", describe(&node.value)));
    };
    if let Some(key) = table.keys().find(|key| !ROUTE_KEYS.contains(&key.as_str())) {
        let meant = closest_match(key, ROUTE_KEYS).map(|known| format!("did you mean `{known}`?"));
        let meant = meant.unwrap_or_else(|| ROUTE_HELP.to_owned());
        return Err(format!("has a route with an unknown key `{}`; {meant}", quote_key(key)));
    }
    let path = read_text(table, "path")?
        .ok_or_else(|| format!("has a route without `path`; {ROUTE_HELP}"))?;
    if !path.starts_with(['/', '*']) {
        return Err(format!("has a path {} that does not begin with /; {ROUTE_HELP}", quote(path)));
    }
    let weight = match table.get("weight").map(|node| node.value.integer()) {
        None => 1,
        Some(Some(weight)) if WEIGHT_RANGE.contains(&weight) => u32::try_from(weight).unwrap_or(1),
        Some(_) => {
            let (least, most) = (WEIGHT_RANGE.start(), WEIGHT_RANGE.end());
            return Err(format!("has a weight that is no whole number from {least} to {most}"));
        }
    };
    let budget = read_text(table, "budget")?
        .map(|text| text.parse::<Rate>().map_err(|error| format!("has a budget: {error}")))
        .transpose()?;
    Ok(RouteWeight { path: path.to_owned(), weight, budget })
}

fn read_text<'t>(table: &'t Table, key: &str) -> Result<Option<&'t str>, String> {
    let node = table.get(key);
    let text =
        node.map(|node| plain_text(&node.value).map_err(|what| format!("has a {key} that {what}")));
    text.transpose()
}

fn write_route(route: &RouteWeight) -> String {
    let budget = route.budget.map(|rate| format!(", budget = \"{rate}\"")).unwrap_or_default();
    format!("{{ path = {}, weight = {}{budget} }}", quote(&route.path), route.weight)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_matches_any_characters() {
        for (pattern, path, is_match) in [
            ("/a", "/a", true),
            ("/a", "/a/b", false),
            ("/a/*", "/a/b/c", true),
            ("/a/*", "/b", false),
            ("*/messages/*", "/v1/users/me/messages/17", true),
            ("*/messages", "/v1/messages/17", false),
            ("/a*b*c", "/a-b-b-c", true),
            ("/a*b*c", "/a-c-b", false),
            ("*", "", true),
        ] {
            assert_eq!(matches_pattern(pattern, path), is_match, "{pattern} {path}");
        }
    }
}
