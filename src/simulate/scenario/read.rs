//! From a table as written to a scenario.

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

/// A rehearsal of so many requests takes some seconds, and nobody waits longer.
const REQUESTS_MAX: u64 = 2_000_000;

const SECOND: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_secs(86_400);
const MONTH: Duration = Duration::from_secs(31 * 86_400);

/// A server not far away.
const LATENCY_DEFAULT: LatencyModel =
    LatencyModel { base: Duration::from_millis(60), mean_tail: Duration::from_millis(40) };

const IN_FLIGHT_DEFAULT: u32 = 8;
const IN_FLIGHT_MAX: u64 = 256;
const WEIGHT_MAX: u64 = 10_000;

const RATE_EXAMPLE: &str = "a rate such as \"10/s\", \"600/min\" or \"5000/h\"";

/// How a limit counts.
#[derive(Clone, Copy)]
enum AlgorithmName {
    FixedWindow,
    SlidingLog,
    TokenBucket,
    Lockout,
}

/// The families of headers.
#[derive(Clone, Copy)]
enum HeaderModeName {
    None,
    RetryAfter,
    RateLimit,
    RateLimitOld,
    XRateLimit,
}

/// Reads the whole file; `None` where a mistake leaves nothing to rehearse.
pub(super) fn read_scenario(
    file: &Arc<Path>,
    table: Table,
    mistakes: &mut Vec<Diagnostic>,
) -> Option<Scenario> {
    let mut top = ScenarioTable::new("", Location::File(Arc::clone(file)), table, mistakes);
    let about = top.text("about", "600 requests in each minute");
    let server =
        top.take_table("server", Some("it says how the server answers")).and_then(read_server);
    let shape = top.take_table("limit", Some("it says how the server counts")).and_then(read_limit);
    let neighbour = top.take_table("neighbour", None).and_then(read_competing_client);
    let outages = top.read_tables("outage", read_outage);
    let mailbox = top.take_table("mailbox", Some("it says how much there is to be had"));
    let mailbox = mailbox.and_then(read_workload);
    top.report_unknown_keys();
    let outages = sort_outages(outages, mistakes);
    let (latency, speech, renewal) = server?;
    let (mailbox, place) = mailbox?;
    let server = SimulatedServer {
        algorithm: shape?,
        header_mode: speech,
        reset_semantics: renewal,
        latency,
        competing_client: neighbour,
        outages,
    };
    let Workload { stop_condition: until, workers, weight } = mailbox;
    let scenario = Scenario { description: about?, server, workers, weight, stop_condition: until };
    if scenario.max_requests() > REQUESTS_MAX {
        let what = format!(
            "`mailbox.lasts` is time for more than {REQUESTS_MAX} requests; shorten it, or lower the limit"
        );
        mistakes.push(Diagnostic { location: place, message: what });
    }
    Some(scenario)
}

fn read_server(
    mut fields: ScenarioTable<'_>,
) -> Option<(LatencyModel, HeaderMode, ResetSemantics)> {
    let base = fields.or_default("latency", LATENCY_DEFAULT.base, |fields, key| {
        fields.duration(key, Duration::from_millis(1)..=60 * SECOND)
    });
    let spread = fields.or_default("tail", LATENCY_DEFAULT.mean_tail, |fields, key| {
        fields.duration(key, Duration::ZERO..=60 * SECOND)
    });
    let headers = fields.choice(
        "headers",
        &[
            ("none", HeaderModeName::None),
            ("retry-after", HeaderModeName::RetryAfter),
            ("ratelimit", HeaderModeName::RateLimit),
            ("ratelimit-old", HeaderModeName::RateLimitOld),
            ("x-ratelimit", HeaderModeName::XRateLimit),
        ],
    );
    if headers.is_some() && !matches!(headers, Some(HeaderModeName::XRateLimit)) {
        fields.reject_key("reset", "has a meaning only beside `headers = \"x-ratelimit\"`");
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
        fields.reject_key("renewal", "has a meaning only beside headers that name a reset");
    }
    let renewal = fields.or_default("renewal", ResetSemantics::FullQuota, |fields, key| {
        fields
            .choice(key, &[("all", ResetSemantics::FullQuota), ("next", ResetSemantics::NextUnit)])
    });
    fields.report_unknown_keys();
    let speech = match headers? {
        HeaderModeName::None => HeaderMode::None,
        HeaderModeName::RetryAfter => HeaderMode::RetryAfter,
        HeaderModeName::RateLimit => HeaderMode::RateLimit,
        HeaderModeName::RateLimitOld => HeaderMode::RateLimitOld,
        HeaderModeName::XRateLimit => HeaderMode::XRateLimit(reset),
    };
    Some((LatencyModel { base, mean_tail: spread }, speech, renewal))
}

fn read_limit(mut fields: ScenarioTable<'_>) -> Option<LimitAlgorithm> {
    let shape = read_algorithm(&mut fields);
    fields.report_unknown_keys();
    shape
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
        // Without a kind nothing can be said of the other keys.
        fields.discard_remaining();
        return None;
    };
    match kind {
        AlgorithmName::FixedWindow => {
            let windowed = read_quota_and_window(fields);
            let phase = fields.or_default("phase", Duration::ZERO, |fields, key| {
                fields.duration(key, Duration::ZERO..=MONTH)
            });
            windowed.map(|(quota, window)| LimitAlgorithm::FixedWindow { quota, window, phase })
        }
        AlgorithmName::SlidingLog => read_quota_and_window(fields)
            .map(|(quota, window)| LimitAlgorithm::SlidingLog { quota, window }),
        AlgorithmName::TokenBucket => {
            let (rate, burst) = (fields.parsed("rate", RATE_EXAMPLE), read_quota(fields, "burst"));
            Some(LimitAlgorithm::TokenBucket { rate: rate?, burst: burst? })
        }
        AlgorithmName::Lockout => {
            let windowed = read_quota_and_window(fields);
            let lock = fields.duration("hold", SECOND..=DAY);
            let restart = fields.or_default("asking", LockoutExtension::Never, |fields, key| {
                fields.choice(
                    key,
                    &[
                        ("changes-nothing", LockoutExtension::Never),
                        ("restarts", LockoutExtension::ByAnyRequest),
                    ],
                )
            });
            let (quota, window) = windowed?;
            Some(LimitAlgorithm::Lockout { quota, window, lockout: lock?, extension: restart })
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

fn read_u32(fields: &mut ScenarioTable<'_>, key: &'static str, most: u64) -> Option<u32> {
    fields.count(key, 1..=most).and_then(|number| u32::try_from(number).ok())
}

fn read_competing_client(mut fields: ScenarioTable<'_>) -> Option<CompetingClient> {
    let rate = fields.parsed("rate", RATE_EXAMPLE);
    let works = fields.or_default("works", DAY, |fields, key| fields.duration(key, SECOND..=MONTH));
    let rests = fields.or_default("rests", Duration::ZERO, |fields, key| {
        fields.duration(key, Duration::ZERO..=MONTH)
    });
    fields.report_unknown_keys();
    Some(CompetingClient { rate: rate?, active_for: works, idle_for: rests })
}

fn read_outage(fields: &mut ScenarioTable<'_>) -> Option<SimulatedOutage> {
    let from = fields.duration("at", Duration::ZERO..=MONTH);
    let lasts = fields.duration("lasts", SECOND..=MONTH);
    Some(SimulatedOutage { start: from?, duration: lasts? })
}

/// How much there is to be had, and how it is asked for.
struct Workload {
    stop_condition: StopCondition,
    workers: u32,
    weight: u32,
}

fn read_workload(mut fields: ScenarioTable<'_>) -> Option<(Workload, Location)> {
    let until = read_stop_condition(&mut fields);
    let workers = fields.or_default("in_flight", IN_FLIGHT_DEFAULT, |fields, key| {
        read_u32(fields, key, IN_FLIGHT_MAX)
    });
    let weight = fields.or_default("weight", 1, |fields, key| read_u32(fields, key, WEIGHT_MAX));
    let place = fields.location();
    fields.report_unknown_keys();
    until.map(|until| (Workload { stop_condition: until, workers, weight }, place))
}

fn read_stop_condition(fields: &mut ScenarioTable<'_>) -> Option<StopCondition> {
    match (fields.contains("requests"), fields.contains("lasts")) {
        (true, has_both) => {
            if has_both {
                fields.reject_key("lasts", "has no place beside `mailbox.requests`; leave one out");
            }
            fields.count("requests", 1..=REQUESTS_MAX).map(StopCondition::Requests)
        }
        (false, true) => fields.duration("lasts", SECOND..=MONTH).map(StopCondition::Elapsed),
        (false, false) => {
            let what = "[mailbox] says neither `requests`, how many there are, nor `lasts`, for \
                        how long to try; write one";
            fields.report_error(what.to_owned());
            fields.allow_keys(&["requests", "lasts"]);
            None
        }
    }
}

/// Sorts the outages, and refuses one that begins before another is over.
fn sort_outages(
    mut found: Vec<(Location, SimulatedOutage)>,
    mistakes: &mut Vec<Diagnostic>,
) -> Vec<SimulatedOutage> {
    found.sort_by_key(|(_, outage)| outage.start);
    for pair in found.windows(2) {
        let [(_, first), (place, second)] = pair else { continue };
        if second.start < first.start + first.duration {
            let what = "this outage begins before another is over; write them as one".to_owned();
            mistakes.push(Diagnostic { location: place.clone(), message: what });
        }
    }
    found.into_iter().map(|(_, outage)| outage).collect()
}
