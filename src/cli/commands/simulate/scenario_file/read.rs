//! Conversion of a parsed scenario file into a [`Scenario`].

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use cynosure_engine::rate_limit::{Rate, ResetMeaning};
use cynosure_engine::user_input::Location;
use cynosure_lab::simulate::{
    CompetingClient, HeaderMode, LatencyModel, LimitAlgorithm, LockoutExtension, ResetSemantics,
    Scenario, SimulatedOutage, SimulatedServer, StopCondition,
};

use crate::config::{EnvValueForm, Section, Value, describe};

/// Maximum number of requests of a simulation. So many take some seconds, and users do not wait
/// longer.
const REQUESTS_MAX: u32 = 2_000_000;

const SECOND: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_secs(86_400);
const MONTH: Duration = Duration::from_secs(31 * 86_400);

/// Default latency: that of a server not far away.
const LATENCY_DEFAULT: LatencyModel =
    LatencyModel { base: Duration::from_millis(60), mean_tail: Duration::from_millis(40) };

const IN_FLIGHT_DEFAULT: u32 = 8;
const IN_FLIGHT_MAX: u32 = 256;
const WEIGHT_MAX: u32 = 10_000;

/// Maximum length of the description in characters, because it is shown on one line.
const DESCRIPTION_LEN_MAX: usize = 100;
const DESCRIPTION_EXAMPLE: &str = "a line of text such as \"600 requests in each minute\"";
const RATE_EXAMPLE: &str = "a rate such as \"10/s\", \"600/min\" or \"5000/h\"";

/// Values of the key `kind` of `[limit]`.
#[derive(Clone, Copy)]
enum AlgorithmName {
    FixedWindow,
    SlidingLog,
    TokenBucket,
    Lockout,
}

/// Values of the key `headers` of `[server]`.
#[derive(Clone, Copy)]
enum HeaderModeName {
    None,
    RetryAfter,
    RateLimit,
    RateLimitLegacy,
    XRateLimit,
}

/// Reads the whole file. `None` if an error leaves no valid scenario.
pub(super) fn read_scenario(file: &Arc<Path>, top: &mut Section<'_, '_>) -> Option<Scenario> {
    let location = Location::File(Arc::clone(file));
    let description = top.required_value("about", &location, DESCRIPTION_EXAMPLE, |value| {
        let text = value.text()?;
        let fits =
            text.chars().count() <= DESCRIPTION_LEN_MAX && !text.chars().any(char::is_control);
        (fits && !text.trim().is_empty()).then(|| text.to_owned())
    });
    let purposes = [
        ("server", "it sets the latency and headers"),
        ("limit", "it sets the server's rate limit"),
        ("mailbox", "it sets the number of requests, or the time to run"),
    ];
    for (key, purpose) in purposes {
        if !top.contains(key) {
            let message = format!("[{key}] is missing; {purpose}");
            top.reader.report_error(location.clone(), message);
        }
    }
    let server = read_table(top, "server", read_server);
    let algorithm = read_table(top, "limit", read_algorithm);
    let competing_client = read_table(top, "neighbour", read_competing_client);
    let outages = read_outages(top);
    let workload = read_table(top, "mailbox", read_workload);
    let (latency, header_mode, reset_semantics) = server?;
    let (workload, location) = workload?;
    let server = SimulatedServer {
        algorithm: algorithm?,
        header_mode,
        reset_semantics,
        latency,
        competing_client,
        outages,
    };
    let Workload { stop_condition, workers, weight } = workload;
    let scenario = Scenario { description: description?, server, workers, weight, stop_condition };
    if scenario.max_requests() > u64::from(REQUESTS_MAX) {
        let message = format!(
            "`mailbox.lasts` allows more than {REQUESTS_MAX} requests; shorten it, or lower the \
             limit"
        );
        top.reader.report_error(location, message);
    }
    Some(scenario)
}

/// Reads a table of the file with `read`, which also gets its location. `None` if it is absent.
fn read_table<T>(
    top: &mut Section<'_, '_>,
    key: &'static str,
    read: impl FnOnce(&mut Section<'_, '_>, &Location) -> Option<T>,
) -> Option<T> {
    let node = top.take(key)?;
    let location = node.location.clone();
    let table = top.reader.as_table(key, node)?;
    top.reader.section(key, table, |table| read(table, &location))
}

fn read_server(
    table: &mut Section<'_, '_>,
    location: &Location,
) -> Option<(LatencyModel, HeaderMode, ResetSemantics)> {
    let latency_range = Duration::from_millis(1)..=60 * SECOND;
    let base = table.duration("latency", LATENCY_DEFAULT.base, latency_range);
    let mean_tail = table.duration("tail", LATENCY_DEFAULT.mean_tail, Duration::ZERO..=60 * SECOND);
    let headers = required_choice(
        table,
        "headers",
        location,
        &[
            ("none", HeaderModeName::None),
            ("retry-after", HeaderModeName::RetryAfter),
            ("ratelimit", HeaderModeName::RateLimit),
            ("ratelimit-old", HeaderModeName::RateLimitLegacy),
            ("x-ratelimit", HeaderModeName::XRateLimit),
        ],
    );
    if headers.is_some() && !matches!(headers, Some(HeaderModeName::XRateLimit)) {
        reject_key(table, "reset", "applies only to `headers = \"x-ratelimit\"`");
    }
    let reset = choice(
        table,
        "reset",
        ResetMeaning::EpochSeconds,
        &[
            ("seconds", ResetMeaning::DeltaSeconds),
            ("milliseconds", ResetMeaning::DeltaMillis),
            ("epoch_seconds", ResetMeaning::EpochSeconds),
            ("epoch_milliseconds", ResetMeaning::EpochMillis),
            ("date", ResetMeaning::Date),
        ],
    );
    if let Some(HeaderModeName::None | HeaderModeName::RetryAfter) = headers {
        reject_key(table, "renewal", "applies only to headers that contain a reset");
    }
    let reset_semantics = choice(
        table,
        "renewal",
        ResetSemantics::FullQuota,
        &[("all", ResetSemantics::FullQuota), ("next", ResetSemantics::NextUnit)],
    );
    let header_mode = match headers? {
        HeaderModeName::None => HeaderMode::None,
        HeaderModeName::RetryAfter => HeaderMode::RetryAfter,
        HeaderModeName::RateLimit => HeaderMode::RateLimit,
        HeaderModeName::RateLimitLegacy => HeaderMode::RateLimitLegacy,
        HeaderModeName::XRateLimit => HeaderMode::XRateLimit(reset),
    };
    Some((LatencyModel { base, mean_tail }, header_mode, reset_semantics))
}

fn read_algorithm(table: &mut Section<'_, '_>, location: &Location) -> Option<LimitAlgorithm> {
    let kind = required_choice(
        table,
        "kind",
        location,
        &[
            ("fixed-window", AlgorithmName::FixedWindow),
            ("sliding-log", AlgorithmName::SlidingLog),
            ("token-bucket", AlgorithmName::TokenBucket),
            ("lock-out", AlgorithmName::Lockout),
        ],
    );
    let Some(kind) = kind else {
        // The valid keys depend on the kind.
        table.discard_rest();
        return None;
    };
    match kind {
        AlgorithmName::FixedWindow => {
            let quota_and_window = read_quota_and_window(table, location);
            let phase = table.duration("phase", Duration::ZERO, Duration::ZERO..=MONTH);
            quota_and_window.map(|(quota, window)| LimitAlgorithm::FixedWindow {
                quota,
                window,
                phase,
            })
        }
        AlgorithmName::SlidingLog => read_quota_and_window(table, location)
            .map(|(quota, window)| LimitAlgorithm::SlidingLog { quota, window }),
        AlgorithmName::TokenBucket => {
            let rate = read_rate(table, location);
            let burst = table.required_count("burst", location, 1..=REQUESTS_MAX);
            Some(LimitAlgorithm::TokenBucket { rate: rate?, burst: burst? })
        }
        AlgorithmName::Lockout => {
            let quota_and_window = read_quota_and_window(table, location);
            let lockout = table.required_duration("hold", location, SECOND..=DAY);
            let extension = choice(
                table,
                "asking",
                LockoutExtension::Never,
                &[
                    ("changes-nothing", LockoutExtension::Never),
                    ("restarts", LockoutExtension::ByAnyRequest),
                ],
            );
            let (quota, window) = quota_and_window?;
            Some(LimitAlgorithm::Lockout { quota, window, lockout: lockout?, extension })
        }
    }
}

fn read_quota_and_window(
    table: &mut Section<'_, '_>,
    location: &Location,
) -> Option<(u32, Duration)> {
    let quota = table.required_count("quota", location, 1..=REQUESTS_MAX);
    quota.zip(table.required_duration("window", location, SECOND..=MONTH))
}

fn read_rate(table: &mut Section<'_, '_>, location: &Location) -> Option<Rate> {
    table.required_value("rate", location, RATE_EXAMPLE, |value| value.text()?.parse().ok())
}

fn read_competing_client(
    table: &mut Section<'_, '_>,
    location: &Location,
) -> Option<CompetingClient> {
    let rate = read_rate(table, location);
    let active_for = table.duration("works", DAY, SECOND..=MONTH);
    let idle_for = table.duration("rests", Duration::ZERO, Duration::ZERO..=MONTH);
    Some(CompetingClient { rate: rate?, active_for, idle_for })
}

/// Reads the list of outages, which may be absent.
fn read_outages(top: &mut Section<'_, '_>) -> Vec<SimulatedOutage> {
    let Some(node) = top.take("outage") else { return Vec::new() };
    let Value::List(items) = node.value else {
        let message = format!(
            "`outage` is {}; write [[outage]], with two brackets, once for each",
            describe(&node.value)
        );
        top.reader.report_error(node.location, message);
        return Vec::new();
    };
    let mut outages = Vec::new();
    for item in items {
        let location = item.location;
        let Value::Table(table) = item.value else {
            let message = format!("`outage` holds {}; write [[outage]]", describe(&item.value));
            top.reader.report_error(location, message);
            continue;
        };
        let outage = top.reader.section("outage", table, |table| read_outage(table, &location));
        outages.extend(outage.map(|outage| (location, outage)));
    }
    sort_outages(outages, top)
}

fn read_outage(table: &mut Section<'_, '_>, location: &Location) -> Option<SimulatedOutage> {
    let start = table.required_duration("at", location, Duration::ZERO..=MONTH);
    let duration = table.required_duration("lasts", location, SECOND..=MONTH);
    Some(SimulatedOutage { start: start?, duration: duration? })
}

/// Contents of `[mailbox]`: the requests to send, their concurrency and their cost.
struct Workload {
    stop_condition: StopCondition,
    workers: u32,
    weight: u32,
}

fn read_workload(table: &mut Section<'_, '_>, location: &Location) -> Option<(Workload, Location)> {
    let stop_condition = read_stop_condition(table, location);
    let workers = table.count("in_flight", IN_FLIGHT_DEFAULT, 1..=IN_FLIGHT_MAX);
    let weight = table.count("weight", 1, 1..=WEIGHT_MAX);
    let workload = Workload { stop_condition: stop_condition?, workers, weight };
    Some((workload, location.clone()))
}

fn read_stop_condition(table: &mut Section<'_, '_>, location: &Location) -> Option<StopCondition> {
    if table.contains("requests") {
        if table.contains("lasts") {
            reject_key(table, "lasts", "cannot be combined with `mailbox.requests`; remove one");
        }
        let requests = table.required_count("requests", location, 1..=REQUESTS_MAX);
        return requests.map(|requests| StopCondition::Requests(u64::from(requests)));
    }
    if table.contains("lasts") {
        let duration = table.required_duration("lasts", location, SECOND..=MONTH);
        return duration.map(StopCondition::Elapsed);
    }
    let message = "[mailbox] needs `requests`, the number of requests, or `lasts`, the time to \
                   run; write one";
    table.reader.report_error(location.clone(), message.to_owned());
    for known_key in ["requests", "lasts"] {
        table.take(known_key);
    }
    None
}

/// Reports a key that is not allowed here, with the reason.
fn reject_key(table: &mut Section<'_, '_>, key: &'static str, reason: &str) {
    if let Some(node) = table.take(key) {
        let message = format!("`{}` {reason}", table.key(key));
        table.reader.report_error(node.location, message);
    }
}

/// Reads one of a fixed set of words.
fn required_choice<T: Copy>(
    table: &mut Section<'_, '_>,
    key: &'static str,
    location: &Location,
    words: &[(&str, T)],
) -> Option<T> {
    table.required_value(key, location, &one_of(words), |value| find_word(value, words))
}

fn choice<T: Copy>(
    table: &mut Section<'_, '_>,
    key: &'static str,
    default: T,
    words: &[(&str, T)],
) -> T {
    let given =
        table.value(key, EnvValueForm::Text, &one_of(words), |value| find_word(value, words));
    given.map_or(default, |(word, _)| word)
}

fn one_of<T>(words: &[(&str, T)]) -> String {
    let quoted: Vec<String> = words.iter().map(|(word, _)| format!("{word:?}")).collect();
    format!("one of {}", quoted.join(", "))
}

fn find_word<T: Copy>(value: &Value, words: &[(&str, T)]) -> Option<T> {
    let text = value.text()?;
    words.iter().find(|(word, _)| *word == text).map(|(_, choice)| *choice)
}

/// Sorts the outages by start and reports each that overlaps the one before it.
fn sort_outages(
    mut outages: Vec<(Location, SimulatedOutage)>,
    top: &mut Section<'_, '_>,
) -> Vec<SimulatedOutage> {
    outages.sort_by_key(|(_, outage)| outage.start);
    for pair in outages.windows(2) {
        let [(_, first), (location, second)] = pair else { continue };
        if second.start < first.start + first.duration {
            let message = "this outage overlaps an earlier one; write them as one".to_owned();
            top.reader.report_error(location.clone(), message);
        }
    }
    outages.into_iter().map(|(_, outage)| outage).collect()
}
