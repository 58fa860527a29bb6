//! Third stage, the building half: every setting with its default and its limits, in the order of `config.toml`.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::time::Duration;

use super::alert;
use super::ask::plain_text;
use super::auth;
use super::endpoint;
use super::file::{Node, Table};
use super::health;
use super::merge::Variable;
use super::place::Place;
use super::provider::{CONCURRENCY, providers};
use super::proxy;
use super::reader::{Reader, Section};
use super::retry;
use super::settings::{
    Archive, Backoff, BackoffBase, Breaker, Item, Monitor, Request, Restart, Service, Settings,
};
use super::show::{quote, quote_key};
use super::source::{Auth, Kind, Source, SourceName, is_exposed, parse_kind, parse_url, shown};
use super::suggest::nearest;
use super::telemetry;
use url::Url;

/// The longest duration: a longer one is a slip of the unit, and sums with it could overflow.
pub(super) const LONGEST: Duration = Duration::from_secs(366 * 86_400);

/// How often everything is listed once more, unless a source says otherwise.
const RECONCILE_INTERVAL: Duration = Duration::from_secs(30 * 86_400);

/// Most durations must not be zero, or the worker would spin.
pub(super) const SOME_TIME: RangeInclusive<Duration> = Duration::from_millis(1)..=LONGEST;
const ANY_TIME: RangeInclusive<Duration> = Duration::ZERO..=LONGEST;

/// Counts of attempts and failures: more is a slip, or a wish for "without end" that the worker does not grant.
pub(super) const AT_LEAST_ONE: RangeInclusive<u32> = 1..=10_000;
const NONE_OR_MORE: RangeInclusive<u32> = 0..=10_000;

/// Calls before a share of them means anything: a breaker looks back at a hundred.
const CALLS_OF_A_SHARE: RangeInclusive<u32> = 2..=100;

/// Bytes of an answer or a document: less than a KiB holds none, more than a TiB is a slip.
const BODY: RangeInclusive<u64> = 1 << 10..=1 << 40;

const TABLES: [&str; 16] = [
    "restart",
    "service",
    "backoff",
    "request",
    "retry",
    "proxy",
    "item",
    "breaker",
    "archive",
    "source",
    "provider",
    "monitor",
    "health",
    "alert",
    "endpoint",
    "telemetry",
];

/// Reads every table; what is wrong is in `reader.mistakes` afterwards, with a default in its place.
pub(super) fn build(reader: &mut Reader<'_>) -> Settings {
    let restart = ask_table(reader, "restart", restart);
    let service = ask_table(reader, "service", service);
    let backoff = backoff(reader, &restart);
    let request = ask_table(reader, "request", request);
    let retry = retry::retry(reader, &request);
    let proxy = ask_table(reader, "proxy", proxy::proxy);
    let item = ask_table(reader, "item", item);
    let breaker = ask_table(reader, "breaker", breaker);
    let archive =
        ask_table(reader, "archive", |table| Archive { dir: table.path("dir", "downloads") });
    let monitor = ask_table(reader, "monitor", monitor);
    let health = ask_table(reader, "health", health::health);
    let alert = alert::alert(reader);
    let endpoint = ask_table(reader, "endpoint", endpoint::endpoint);
    let telemetry = ask_table(reader, "telemetry", telemetry::telemetry);
    let sources = sources(reader);
    proxy::refuse_exposed(reader, &proxy, &sources);
    let providers = providers(reader, &request);
    refuse_other_tables(reader);
    Settings {
        restart,
        service,
        backoff,
        request,
        retry,
        proxy,
        item,
        breaker,
        archive,
        monitor,
        health,
        alert,
        endpoint,
        telemetry,
        sources,
        providers,
    }
}

fn ask_table<T>(
    reader: &mut Reader<'_>,
    name: &str,
    ask: impl FnOnce(&mut Section<'_, '_>) -> T,
) -> T {
    let table = reader.table(name);
    reader.section(name, table, ask)
}

fn restart(table: &mut Section<'_, '_>) -> Restart {
    let restart = Restart {
        max_retries: table.count("max_retries", 3, NONE_OR_MORE),
        retry_delay_base: table.duration("retry_delay_base", seconds(60), SOME_TIME),
        retry_delay_multiplier: table.count("retry_delay_multiplier", 2, 1..=10),
        max_retry_delay: table.duration("max_retry_delay", seconds(3600), SOME_TIME),
        restart_delay_success: table.duration("restart_delay_success", seconds(0), ANY_TIME),
        restart_delay_auth: table.duration("restart_delay_auth", seconds(300), SOME_TIME),
        restart_delay_errors: table.duration("restart_delay_errors", seconds(600), SOME_TIME),
        max_execution_time: table.duration("max_execution_time", seconds(86_400), SOME_TIME),
        max_consecutive_errors: table.count("max_consecutive_errors", 5, AT_LEAST_ONE),
        rate_limit_duration: table.duration_if_given("rate_limit_duration", SOME_TIME),
        stuck_threshold: table.duration("stuck_threshold", seconds(1800), SOME_TIME),
        health_check_interval: table.duration("health_check_interval", seconds(300), SOME_TIME),
    };
    table.in_order([
        ("retry_delay_base", restart.retry_delay_base),
        ("max_retry_delay", restart.max_retry_delay),
    ]);
    restart
}

fn service(table: &mut Section<'_, '_>) -> Service {
    Service {
        service_name: table.text("service_name", "cynosure", check_unit_name),
        enable_health_monitoring: table.flag("enable_health_monitoring", true),
        enable_auto_restart: table.flag("enable_auto_restart", true),
        enable_retry_logic: table.flag("enable_retry_logic", true),
    }
}

fn check_unit_name(name: &str) -> Result<(), String> {
    // systemd.unit(5): a unit's name with its suffix has at most 255 characters of these.
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || ":-_.\\@".contains(c);
    if name.len() <= 255 - ".service".len()
        && name.chars().all(is_allowed)
        && !name.ends_with(".service")
    {
        return Ok(());
    }
    Err("is no name of a unit; write it without .service, in letters, digits and :-_.\\@"
        .to_owned())
}

fn backoff(reader: &mut Reader<'_>, restart: &Restart) -> Backoff {
    let mut table = reader.table("backoff");
    let base = table.remove("base").and_then(|node| reader.as_table("backoff.base", node));
    let (jitter, max_doublings) = reader.section("backoff", table, |table| {
        (table.share("jitter", 0.3), table.count("max_doublings", 5, 0..=31))
    });
    let base = reader.section("backoff.base", base.unwrap_or_default(), |table| BackoffBase {
        transient: table.duration("transient", restart.retry_delay_base, SOME_TIME),
        rate_limit: table.duration("rate_limit", seconds(600), SOME_TIME),
        proxy: table.duration("proxy", seconds(300), SOME_TIME),
        challenge: table.duration("challenge", seconds(900), SOME_TIME),
        source_down: table.duration("source_down", seconds(3600), SOME_TIME),
        unknown: table.duration("unknown", seconds(300), SOME_TIME),
    });
    Backoff { base, jitter, max_doublings }
}

fn request(table: &mut Section<'_, '_>) -> Request {
    let request = Request {
        attempts: table.count("attempts", 3, AT_LEAST_ONE),
        delay: table.duration("delay", Duration::from_millis(500), SOME_TIME),
        max_delay: table.duration("max_delay", seconds(10), SOME_TIME),
        connect_timeout: table.duration("connect_timeout", seconds(10), SOME_TIME),
        idle_timeout: table.duration("idle_timeout", seconds(30), SOME_TIME),
        total_timeout: table.duration("total_timeout", seconds(600), SOME_TIME),
        min_rate: table.size("min_rate", 1 << 10, 0..=1 << 30),
        max_answer: table.size("max_answer", 64 << 20, BODY),
        max_document: table.size("max_document", 1 << 30, BODY),
        concurrency: table.count("concurrency", 8, CONCURRENCY),
    };
    table.in_order([("delay", request.delay), ("max_delay", request.max_delay)]);
    request
}

fn item(table: &mut Section<'_, '_>) -> Item {
    let item = Item {
        max_attempts: table.count("max_attempts", 3, AT_LEAST_ONE),
        retry_delay: table.duration("retry_delay", seconds(10), SOME_TIME),
        max_retry_delay: table.duration("max_retry_delay", seconds(300), SOME_TIME),
        recheck: table.duration("recheck", seconds(86_400), SOME_TIME),
        max_recheck: table.duration("max_recheck", seconds(7 * 86_400), SOME_TIME),
    };
    table.in_order([("retry_delay", item.retry_delay), ("max_retry_delay", item.max_retry_delay)]);
    table.in_order([("recheck", item.recheck), ("max_recheck", item.max_recheck)]);
    item
}

fn breaker(table: &mut Section<'_, '_>) -> Breaker {
    let breaker = Breaker {
        failure_threshold: table.count("failure_threshold", 5, AT_LEAST_ONE),
        window: table.duration("window", seconds(600), SOME_TIME),
        failure_rate: table.share("failure_rate", 0.5),
        min_calls: table.count("min_calls", 20, CALLS_OF_A_SHARE),
        recovery_timeout: table.duration("recovery_timeout", seconds(60), SOME_TIME),
        max_recovery_timeout: table.duration("max_recovery_timeout", seconds(600), SOME_TIME),
        success_threshold: table.count("success_threshold", 3, AT_LEAST_ONE),
    };
    table.in_order([
        ("recovery_timeout", breaker.recovery_timeout),
        ("max_recovery_timeout", breaker.max_recovery_timeout),
    ]);
    breaker
}

fn monitor(table: &mut Section<'_, '_>) -> Monitor {
    Monitor {
        interval: table.duration("interval", seconds(60), SOME_TIME),
        grace: table.duration("grace", seconds(360), SOME_TIME),
        restart_stuck: table.flag("restart_stuck", true),
        restart_down: table.flag("restart_down", true),
        bus_timeout: table.duration("bus_timeout", seconds(10), SOME_TIME),
    }
}

pub(super) const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn sources(reader: &mut Reader<'_>) -> BTreeMap<SourceName, Source> {
    let mut sources = BTreeMap::new();
    for (name, node) in reader.table("source") {
        let place = node.place.clone();
        let table_name = format!("source.{}", quote_key(&name));
        let Some(table) = reader.as_table(&table_name, node) else { continue };
        match name.parse::<SourceName>() {
            Ok(name) => {
                let read = reader.section(&table_name, table, |table| source(table, &place));
                sources.extend(read.map(|source| (name, source)));
            }
            Err(rule) => reader
                .refuse(place, format!("`{table_name}` has a name that cannot be used; {rule}")),
        }
    }
    sources
}

/// Reads one source; `None` when what it cannot do without is missing or wrong, which is then among the mistakes.
fn source(table: &mut Section<'_, '_>, place: &Place) -> Option<Source> {
    let kind = required(table, "kind", place, "write kind = \"jmap\"", parse_kind, |Kind::Jmap| {
        quote("jmap")
    });
    let help = "write url = \"https://api.example.com/.well-known/jmap\"";
    let url = required(table, "url", place, help, parse_url, |url| quote(&shown(url)));
    let auth = source_auth(table, place);
    let account = account(table, place, auth.as_ref());
    let host = url.as_ref().and_then(|(url, _)| url.host_str()).unwrap_or_default();
    let provider = table.text("provider", host, check_provider);
    let poll_interval = table.duration("poll_interval", seconds(300), SOME_TIME);
    let reconcile_interval = table.duration("reconcile_interval", RECONCILE_INTERVAL, SOME_TIME);
    let mailboxes = table.texts("mailboxes", |_| Ok(()));
    let allow_hosts = table.texts("allow_hosts", |host| {
        let url = Url::parse(&format!("https://{host}/"));
        let is_host = url.is_ok_and(|url| url.host_str() == Some(host));
        is_host.then_some(()).ok_or_else(|| {
            format!("{} is not a host name such as \"mail.example.com\"", quote(host))
        })
    });
    let since = table.date("since");
    let allow_plaintext = table.flag("allow_plaintext", false);
    let enabled = table.flag("enabled", true);

    let (url, url_place) = url?;
    if is_exposed(&url) && !allow_plaintext {
        let what = format!(
            "`{}` is plain http, so password and mail could be read on the way; write https://, or set \
             allow_plaintext = true in this table if the way is safe",
            table.key("url")
        );
        table.reader.refuse(url_place, what);
    }
    let (kind, _) = kind?;
    let (auth, account) = (auth?, account?);
    Some(Source {
        kind,
        url,
        account,
        provider,
        auth,
        poll_interval,
        reconcile_interval,
        allow_plaintext,
        allow_hosts,
        mailboxes,
        since,
        enabled,
    })
}

/// The breakers of what every source shares are called so.
fn check_provider(name: &str) -> Result<(), String> {
    match name {
        "ledger" | "archive" => {
            Err("is the name of a breaker of its own; call the provider otherwise".to_owned())
        }
        _ => Ok(()),
    }
}

fn source_auth(table: &mut Section<'_, '_>, place: &Place) -> Option<Auth> {
    let fallback = table.reader.folder.clone();
    let read = |node: &Node| auth::read(node, &node.place.folder().unwrap_or(fallback));
    let (auth, place) = table.required("auth", Variable::Toml, place, auth::HELP, read)?;
    table.enter("auth", Some(auth::write(&auth)), Some(place));
    Some(auth)
}

/// Reads the account, by default the user name of basic auth; a bearer token names nobody.
fn account(table: &mut Section<'_, '_>, place: &Place, auth: Option<&Auth>) -> Option<String> {
    match auth {
        Some(Auth::Basic { username, .. }) => Some(table.text("account", username, |_| Ok(()))),
        Some(Auth::Bearer { .. }) => {
            let help = "a bearer token names nobody: write account = \"me@example.com\", which names the folder";
            required(table, "account", place, help, |text| Ok(text.to_owned()), |text| quote(text))
                .map(|(account, _)| account)
        }
        // What is wrong with `auth` is known by now; whether the account may be left out is not.
        None => Some(table.text("account", "", |_| Ok(()))),
    }
}

fn required<T>(
    table: &mut Section<'_, '_>,
    key: &'static str,
    place: &Place,
    missing: &str,
    read: impl FnOnce(&str) -> Result<T, String>,
    write: impl FnOnce(&T) -> String,
) -> Option<(T, Place)> {
    let given = table.required(key, Variable::Text, place, missing, |node| {
        plain_text(&node.value).and_then(read)
    })?;
    table.enter(key, Some(write(&given.0)), Some(given.1.clone()));
    Some(given)
}

fn refuse_other_tables(reader: &mut Reader<'_>) {
    let others: Table = std::mem::take(&mut reader.layers.tree);
    for (name, node) in others {
        let remedy = match nearest(&name, TABLES) {
            Some(known) => format!("did you mean [{known}]?"),
            None => format!("the tables are {}", TABLES.join(", ")),
        };
        reader.refuse(node.place, format!("unknown table or key `{}`; {remedy}", quote_key(&name)));
    }
}
