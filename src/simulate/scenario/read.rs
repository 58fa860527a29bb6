//! Conversion of a parsed scenario file into a [`Scenario`].

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::config::{Diagnostic, Location, Table};
use crate::engine::rate_limit::ResetMeaning;
use crate::simulate::scenario::fields::ScenarioTable;
use crate::simulate::{
    CompetingClient, HeaderMode, LatencyModel, LimitAlgorithm, LockoutExtension, ResetSemantics,
    Scenario, SimulatedOutage, SimulatedServer, StopCondition,
};

/// Maximum number of requests of a simulation. So many take some seconds, and users do not wait
/// longer.
const REQUESTS_MAX: u64 = 2_000_000;

const SECOND: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_secs(86_400);
const MONTH: Duration = Duration::from_secs(31 * 86_400);

/// Default latency: that of a server not far away.
const LATENCY_DEFAULT: LatencyModel =
    LatencyModel { base: Duration::from_millis(60), mean_tail: Duration::from_millis(40) };

const IN_FLIGHT_DEFAULT: u32 = 8;
const IN_FLIGHT_MAX: u64 = 256;
const WEIGHT_MAX: u64 = 10_000;

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
pub(super) fn read_scenario(
    file: &Arc<Path>,
    table: Table,
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<Scenario> {
    let mut top = ScenarioTable::new("", Location::File(Arc::clone(file)), table, diagnostics);
    let description = top.text("about", "600 requests in each minute");
    let server =
        top.take_table("server", Some("it sets the latency and headers")).and_then(read_server);
    let algorithm =
        top.take_table("limit", Some("it sets the server's rate limit")).and_then(read_limit);
    let competing_client = top.take_table("neighbour", None).and_then(read_competing_client);
    let outages = top.read_tables("outage", read_outage);
    let workload = top
        .take_table("mailbox", Some("it sets the number of requests, or the time to run"))
        .and_then(read_workload);
    top.report_unknown_keys();
    let outages = sort_outages(outages, diagnostics);
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
    if scenario.max_requests() > REQUESTS_MAX {
        let message = format!(
            "`mailbox.lasts` allows more than {REQUESTS_MAX} requests; shorten it, or lower the \
             limit"
        );
        diagnostics.push(Diagnostic { location, message });
    }
    Some(scenario)
}

fn read_server(
    mut fields: ScenarioTable<'_>,
) -> Option<(LatencyModel, HeaderMode, ResetSemantics)> {
    let base = fields.or_default("latency", LATENCY_DEFAULT.base, |fields, key| {
        fields.duration(key, Duration::from_millis(1)..=60 * SECOND)
    });
    let mean_tail = fields.or_default("tail", LATENCY_DEFAULT.mean_tail, |fields, key| {
        fields.duration(key, Duration::ZERO..=60 * SECOND)
    });
    let headers = fields.choice(
        "headers",
        &[
            ("none", HeaderModeName::None),
            ("retry-after", HeaderModeName::RetryAfter),
            ("ratelimit", HeaderModeName::RateLimit),
            ("ratelimit-old", HeaderModeName::RateLimitLegacy),
            ("x-ratelimit", HeaderModeName::XRateLimit),
        ],
    );
    if headers.is_some() && !matches!(headers, Some(HeaderModeName::XRateLimit)) {
        fields.reject_key("reset", "applies only to `headers = \"x-ratelimit\"`");
    }
    let reset = fields.or_default("reset", ResetMeaning::EpochSeconds, |fields, key| {
        fields.choice(
            key,
            &[
                ("seconds", ResetMeaning::DeltaSeconds),
                ("milliseconds", ResetMeaning::DeltaMillis),
                ("epoch_seconds", ResetMeaning::EpochSeconds),
                ("epoch_milliseconds", ResetMeaning::EpochMillis),
                ("date", ResetMeaning::Date),
            ],
        )
    });
    if let Some(HeaderModeName::None | HeaderModeName::RetryAfter) = headers {
        fields.reject_key("renewal", "applies only to headers that contain a reset");
    }
    let reset_semantics = fields.or_default("renewal", ResetSemantics::FullQuota, |fields, key| {
        fields
            .choice(key, &[("all", ResetSemantics::FullQuota), ("next", ResetSemantics::NextUnit)])
    });
    fields.report_unknown_keys();
    let header_mode = match headers? {
        HeaderModeName::None => HeaderMode::None,
        HeaderModeName::RetryAfter => HeaderMode::RetryAfter,
        HeaderModeName::RateLimit => HeaderMode::RateLimit,
        HeaderModeName::RateLimitLegacy => HeaderMode::RateLimitLegacy,
        HeaderModeName::XRateLimit => HeaderMode::XRateLimit(reset),
    };
    Some((LatencyModel { base, mean_tail }, header_mode, reset_semantics))
}

fn read_limit(mut fields: ScenarioTable<'_>) -> Option<LimitAlgorithm> {
    let algorithm = read_algorithm(&mut fields);
    fields.report_unknown_keys();
    algorithm
}

fn read_algorithm(fields: &mut ScenarioTable<'_>) -> Option<LimitAlgorithm> {
    let kind = fields.choice(
        "kind",
        &[
            ("fixed-window", AlgorithmName::FixedWindow),
            ("sliding-log", AlgorithmName::SlidingLog),
            ("token-bucket", AlgorithmName::TokenBucket),
            ("lock-out", AlgorithmName::Lockout),
        ],
    );
    let Some(kind) = kind else {
        // The valid keys depend on the kind.
        fields.discard_remaining();
        return None;
    };
    match kind {
        AlgorithmName::FixedWindow => {
            let quota_and_window = read_quota_and_window(fields);
            let phase = fields.or_default("phase", Duration::ZERO, |fields, key| {
                fields.duration(key, Duration::ZERO..=MONTH)
            });
            quota_and_window.map(|(quota, window)| LimitAlgorithm::FixedWindow {
                quota,
                window,
                phase,
            })
        }
        AlgorithmName::SlidingLog => read_quota_and_window(fields)
            .map(|(quota, window)| LimitAlgorithm::SlidingLog { quota, window }),
        AlgorithmName::TokenBucket => {
            let (rate, burst) = (fields.parsed("rate", RATE_EXAMPLE), read_quota(fields, "burst"));
            Some(LimitAlgorithm::TokenBucket { rate: rate?, burst: burst? })
        }
        AlgorithmName::Lockout => {
            let quota_and_window = read_quota_and_window(fields);
            let lockout = fields.duration("hold", SECOND..=DAY);
            let extension = fields.or_default("asking", LockoutExtension::Never, |fields, key| {
                fields.choice(
                    key,
                    &[
                        ("changes-nothing", LockoutExtension::Never),
                        ("restarts", LockoutExtension::ByAnyRequest),
                    ],
                )
            });
            let (quota, window) = quota_and_window?;
            Some(LimitAlgorithm::Lockout { quota, window, lockout: lockout?, extension })
        }
    }
}

fn read_quota_and_window(fields: &mut ScenarioTable<'_>) -> Option<(u32, Duration)> {
    let (quota, window) = (read_quota(fields, "quota"), fields.duration("window", SECOND..=MONTH));
    quota.zip(window)
}

fn read_quota(fields: &mut ScenarioTable<'_>, key: &'static str) -> Option<u32> {
    read_u32(fields, key, REQUESTS_MAX)
}

fn read_u32(fields: &mut ScenarioTable<'_>, key: &'static str, max: u64) -> Option<u32> {
    fields.count(key, 1..=max).and_then(|number| u32::try_from(number).ok())
}

fn read_competing_client(mut fields: ScenarioTable<'_>) -> Option<CompetingClient> {
    let rate = fields.parsed("rate", RATE_EXAMPLE);
    let active_for =
        fields.or_default("works", DAY, |fields, key| fields.duration(key, SECOND..=MONTH));
    let idle_for = fields.or_default("rests", Duration::ZERO, |fields, key| {
        fields.duration(key, Duration::ZERO..=MONTH)
    });
    fields.report_unknown_keys();
    Some(CompetingClient { rate: rate?, active_for, idle_for })
}

fn read_outage(fields: &mut ScenarioTable<'_>) -> Option<SimulatedOutage> {
    let start = fields.duration("at", Duration::ZERO..=MONTH);
    let duration = fields.duration("lasts", SECOND..=MONTH);
    Some(SimulatedOutage { start: start?, duration: duration? })
}

/// Contents of `[mailbox]`: the requests to send, their concurrency and their cost.
struct Workload {
    stop_condition: StopCondition,
    workers: u32,
    weight: u32,
}

fn read_workload(mut fields: ScenarioTable<'_>) -> Option<(Workload, Location)> {
    let stop_condition = read_stop_condition(&mut fields);
    let workers = fields.or_default("in_flight", IN_FLIGHT_DEFAULT, |fields, key| {
        read_u32(fields, key, IN_FLIGHT_MAX)
    });
    let weight = fields.or_default("weight", 1, |fields, key| read_u32(fields, key, WEIGHT_MAX));
    let location = fields.location();
    fields.report_unknown_keys();
    stop_condition.map(|stop_condition| (Workload { stop_condition, workers, weight }, location))
}

fn read_stop_condition(fields: &mut ScenarioTable<'_>) -> Option<StopCondition> {
    match (fields.contains("requests"), fields.contains("lasts")) {
        (true, has_both) => {
            if has_both {
                fields
                    .reject_key("lasts", "cannot be combined with `mailbox.requests`; remove one");
            }
            fields.count("requests", 1..=REQUESTS_MAX).map(StopCondition::Requests)
        }
        (false, true) => fields.duration("lasts", SECOND..=MONTH).map(StopCondition::Elapsed),
        (false, false) => {
            let message = "[mailbox] needs `requests`, the number of requests, or `lasts`, the \
                           time to run; write one";
            fields.report_error(message.to_owned());
            fields.allow_keys(&["requests", "lasts"]);
            None
        }
    }
}

/// Sorts the outages by start and reports each that overlaps the one before it.
fn sort_outages(
    mut outages: Vec<(Location, SimulatedOutage)>,
    diagnostics: &mut Vec<Diagnostic>,
) -> Vec<SimulatedOutage> {
    outages.sort_by_key(|(_, outage)| outage.start);
    for pair in outages.windows(2) {
        let [(_, first), (location, second)] = pair else { continue };
        if second.start < first.start + first.duration {
            let message = "this outage overlaps an earlier one; write them as one".to_owned();
            diagnostics.push(Diagnostic { location: location.clone(), message });
        }
    }
    outages.into_iter().map(|(_, outage)| outage).collect()
}
