//! Third stage: every setting with its default and its range, in the order of `config.toml`.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::time::Duration;

use cynosure_engine::breaker::BreakerPolicy;
use cynosure_engine::user_input::{Location, closest_match};
use cynosure_engine::{Backoff, ItemRetryPolicy, RecheckPolicy};

use super::alert;
use super::endpoint;
use super::file::Table;
use super::health;
use super::kind::{SourceHead, read_head, read_kind};
use super::provider::read_providers;
use super::proxy;
use super::ranges::{ANY_COUNT, ANY_DURATION, POSITIVE_COUNT, POSITIVE_DURATION, seconds};
use super::reader::{Reader, Section};
use super::request;
use super::retry;
use super::settings::{
    ArchiveSettings, MonitorSettings, RestartSettings, ServiceSettings, Settings,
};
use super::show::quote_key;
use super::source::{SourceName, SourceSettings};
use super::telemetry;

/// Default interval at which all items of a source are listed again.
const DEFAULT_RECONCILE_INTERVAL: Duration = Duration::from_secs(30 * 86_400);

/// Range of `breaker.min_calls`, below which a failure rate means nothing. At most 100, because a
/// circuit breaker keeps its last 100 calls.
const MIN_CALLS_RANGE: RangeInclusive<u32> = 2..=100;

const TABLE_NAMES: [&str; 16] = [
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

/// Reads every table. Errors are added to `reader.diagnostics`, and an invalid setting has its
/// default.
pub(super) fn build_settings(reader: &mut Reader<'_>) -> Settings {
    let restart = read_table(reader, "restart", read_restart);
    let service = read_table(reader, "service", read_service);
    let backoff = read_backoff(reader, &restart);
    let request = read_table(reader, "request", request::read_request);
    let retry = retry::read_retry(reader, &request);
    let proxy = read_table(reader, "proxy", proxy::read_proxy);
    let attempt_requests = retry.request.max_attempts;
    let item = read_table(reader, "item", |table| read_item(table, attempt_requests));
    let breaker = read_table(reader, "breaker", read_breaker);
    let archive = read_table(reader, "archive", |table| ArchiveSettings {
        dir: table.path("dir", "downloads"),
    });
    let monitor = read_table(reader, "monitor", read_monitor);
    let health = read_table(reader, "health", health::read_health);
    let alert = alert::read_alert(reader);
    let endpoint = read_table(reader, "endpoint", endpoint::read_endpoint);
    let telemetry = read_table(reader, "telemetry", telemetry::read_telemetry);
    let sources = read_sources(reader);
    proxy::reject_plaintext_sources(reader, &proxy, &sources);
    let providers = read_providers(reader, &request, &sources);
    reject_unknown_tables(reader);
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

fn read_table<T>(
    reader: &mut Reader<'_>,
    name: &str,
    read: impl FnOnce(&mut Section<'_, '_>) -> T,
) -> T {
    let table = reader.table(name);
    reader.section(name, table, read)
}

fn read_restart(table: &mut Section<'_, '_>) -> RestartSettings {
    let restart = RestartSettings {
        max_retries: table.count("max_retries", 3, ANY_COUNT),
        retry_delay_base: table.duration("retry_delay_base", seconds(60), POSITIVE_DURATION),
        retry_delay_multiplier: table.count("retry_delay_multiplier", 2, 1..=10),
        max_retry_delay: table.duration("max_retry_delay", seconds(3600), POSITIVE_DURATION),
        restart_delay_success: table.duration("restart_delay_success", seconds(0), ANY_DURATION),
        restart_delay_auth: table.duration("restart_delay_auth", seconds(300), POSITIVE_DURATION),
        restart_delay_errors: table.duration(
            "restart_delay_errors",
            seconds(600),
            POSITIVE_DURATION,
        ),
        max_execution_time: table.duration(
            "max_execution_time",
            seconds(86_400),
            POSITIVE_DURATION,
        ),
        max_consecutive_errors: table.count("max_consecutive_errors", 5, POSITIVE_COUNT),
        rate_limit_duration: table.duration_if_given("rate_limit_duration", POSITIVE_DURATION),
        stuck_threshold: table.duration("stuck_threshold", seconds(1800), POSITIVE_DURATION),
        health_check_interval: table.duration(
            "health_check_interval",
            seconds(300),
            POSITIVE_DURATION,
        ),
    };
    table.check_order([
        ("retry_delay_base", restart.retry_delay_base),
        ("max_retry_delay", restart.max_retry_delay),
    ]);
    restart
}

fn read_service(table: &mut Section<'_, '_>) -> ServiceSettings {
    ServiceSettings {
        service_name: table.text("service_name", "cynosure", check_unit_name),
        enable_health_monitoring: table.flag("enable_health_monitoring", true),
        enable_auto_restart: table.flag("enable_auto_restart", true),
        enable_retry_logic: table.flag("enable_retry_logic", true),
    }
}

fn check_unit_name(name: &str) -> Result<(), String> {
    // systemd.unit(5): a unit name, suffix included, has at most 255 characters, all of them these.
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || ":-_.\\@".contains(c);
    if name.len() <= 255 - ".service".len()
        && name.chars().all(is_allowed)
        && !name.ends_with(".service")
    {
        return Ok(());
    }
    Err("is not a valid unit name; write it without .service, in letters, digits and :-_.\\@"
        .to_owned())
}

fn read_backoff(reader: &mut Reader<'_>, restart: &RestartSettings) -> Backoff {
    let mut table = reader.table("backoff");
    let base = table.remove("base").and_then(|node| reader.as_table("backoff.base", node));
    let (jitter, max_doublings) = reader.section("backoff", table, |table| {
        (table.share("jitter", 0.3), table.count("max_doublings", 5, 0..=31))
    });
    reader.section("backoff.base", base.unwrap_or_default(), |table| Backoff {
        transient: table.duration("transient", restart.retry_delay_base, POSITIVE_DURATION),
        rate_limit: table.duration("rate_limit", seconds(600), POSITIVE_DURATION),
        proxy: table.duration("proxy", seconds(300), POSITIVE_DURATION),
        challenge: table.duration("challenge", seconds(900), POSITIVE_DURATION),
        source_down: table.duration("source_down", seconds(3600), POSITIVE_DURATION),
        unknown: table.duration("unknown", seconds(300), POSITIVE_DURATION),
        multiplier: f64::from(restart.retry_delay_multiplier),
        max_delay: restart.max_retry_delay,
        jitter,
        max_doublings,
    })
}

/// Reads the policy for failing items. `attempt_requests` is the number of requests of an attempt.
fn read_item(table: &mut Section<'_, '_>, attempt_requests: u32) -> ItemRetryPolicy {
    let max_attempts = table.count("max_attempts", 3, POSITIVE_COUNT);
    let item = ItemRetryPolicy {
        max_attempts,
        max_requests: max_attempts.saturating_mul(attempt_requests),
        retry_delay: table.duration("retry_delay", seconds(10), POSITIVE_DURATION),
        max_retry_delay: table.duration("max_retry_delay", seconds(300), POSITIVE_DURATION),
        recheck: RecheckPolicy {
            interval: table.duration("recheck", seconds(86_400), POSITIVE_DURATION),
            max_interval: table.duration("max_recheck", seconds(7 * 86_400), POSITIVE_DURATION),
        },
    };
    table.check_order([
        ("retry_delay", item.retry_delay),
        ("max_retry_delay", item.max_retry_delay),
    ]);
    let RecheckPolicy { interval, max_interval } = item.recheck;
    table.check_order([("recheck", interval), ("max_recheck", max_interval)]);
    item
}

fn read_breaker(table: &mut Section<'_, '_>) -> BreakerPolicy {
    let default = BreakerPolicy::DEFAULT;
    let breaker = BreakerPolicy {
        failure_threshold: table.count(
            "failure_threshold",
            default.failure_threshold,
            POSITIVE_COUNT,
        ),
        window: table.duration("window", default.window, POSITIVE_DURATION),
        failure_rate: table.share("failure_rate", default.failure_rate),
        min_calls: table.count("min_calls", default.min_calls, MIN_CALLS_RANGE),
        recovery_timeout: table.duration(
            "recovery_timeout",
            default.recovery_timeout,
            POSITIVE_DURATION,
        ),
        max_recovery_timeout: table.duration(
            "max_recovery_timeout",
            default.max_recovery_timeout,
            POSITIVE_DURATION,
        ),
        success_threshold: table.count(
            "success_threshold",
            default.success_threshold,
            POSITIVE_COUNT,
        ),
    };
    table.check_order([
        ("recovery_timeout", breaker.recovery_timeout),
        ("max_recovery_timeout", breaker.max_recovery_timeout),
    ]);
    breaker
}

fn read_monitor(table: &mut Section<'_, '_>) -> MonitorSettings {
    MonitorSettings {
        interval: table.duration("interval", seconds(60), POSITIVE_DURATION),
        grace_period: table.duration("grace", seconds(360), POSITIVE_DURATION),
        should_restart_stuck: table.flag("restart_stuck", true),
        should_restart_failed: table.flag("restart_down", true),
        bus_timeout: table.duration("bus_timeout", seconds(10), POSITIVE_DURATION),
    }
}

fn read_sources(reader: &mut Reader<'_>) -> BTreeMap<SourceName, SourceSettings> {
    let mut sources = BTreeMap::new();
    for (name, node) in reader.table("source") {
        let location = node.location.clone();
        let table_name = format!("source.{}", quote_key(&name));
        let Some(table) = reader.as_table(&table_name, node) else { continue };
        match name.parse::<SourceName>() {
            Ok(name) => {
                let source =
                    reader.section(&table_name, table, |table| read_source(table, &location));
                sources.extend(source.map(|source| (name, source)));
            }
            Err(rule) => reader.report_error(
                location,
                format!("`{table_name}` has a name that cannot be used; {rule}"),
            ),
        }
    }
    sources
}

/// Reads one source. Returns `None` if a required setting is missing or invalid; the error is then
/// recorded.
fn read_source(table: &mut Section<'_, '_>, location: &Location) -> Option<SourceSettings> {
    let kind = read_kind(table, location);
    let (Ok(checked_kind) | Err(checked_kind)) = kind;
    let SourceHead { account, auth, provider, provider_origin, read_rest } =
        read_head(checked_kind, table, location);
    let provider = table.text("provider", &provider, check_provider_name);
    if let Some(origin) = provider_origin {
        table.record_origin("provider", &origin);
    }
    let poll_interval = table.duration("poll_interval", seconds(300), POSITIVE_DURATION);
    let reconcile_interval =
        table.duration("reconcile_interval", DEFAULT_RECONCILE_INTERVAL, POSITIVE_DURATION);
    let kind_settings = read_rest(table);
    let is_enabled = table.flag("enabled", true);

    kind.ok()?;
    Some(SourceSettings {
        kind: kind_settings?,
        account: account?,
        provider,
        auth: auth?,
        poll_interval,
        reconcile_interval,
        is_enabled,
    })
}

/// Rejects the names of the circuit breakers of ledger and archive, which all sources share.
fn check_provider_name(name: &str) -> Result<(), String> {
    match name {
        "ledger" | "archive" => {
            Err("is reserved for a circuit breaker; choose another name for the provider"
                .to_owned())
        }
        _ => Ok(()),
    }
}

fn reject_unknown_tables(reader: &mut Reader<'_>) {
    let unknown: Table = std::mem::take(&mut reader.layers.tree);
    for (name, node) in unknown {
        let remedy = match closest_match(&name, TABLE_NAMES) {
            Some(suggestion) => format!("did you mean [{suggestion}]?"),
            None => format!("the tables are {}", TABLE_NAMES.join(", ")),
        };
        reader.report_error(
            node.location,
            format!("unknown table or key `{}`; {remedy}", quote_key(&name)),
        );
    }
}
