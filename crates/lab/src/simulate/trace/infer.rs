//! Inference of a simulated server from a trace.
//!
//! The result is an estimate with explanations. A trace shows the server's responses to one client
//! at that client's pace: a limit that was never reached is not in it.

use std::time::Duration;

use cynosure_engine::Timestamp;
use cynosure_engine::rate_limit::{
    HeaderDialect, HeaderNames, Rate, ReportedLimits, ResetMeaning, parse_headers,
};
use cynosure_engine::user_input::duration_literal;

use crate::simulate::{
    HeaderMode, LatencyModel, LimitAlgorithm, ResetSemantics, ResponseClass, Scenario,
    SimulatedOutage, SimulatedServer, StopCondition, Trace, TraceRecord,
};

/// Minimum number of failures in a row that count as an outage. Fewer can be single failures.
const OUTAGE_FAILURES: usize = 3;

/// Minimum duration of an outage.
const OUTAGE_DURATION_MIN: Duration = Duration::from_secs(5);

/// Latency if the trace contains none.
const LATENCY_DEFAULT: LatencyModel =
    LatencyModel { base: Duration::from_millis(60), mean_tail: Duration::from_millis(40) };
const WORKERS_DEFAULT: u32 = 8;
const WORKERS_MAX: usize = 256;

/// Common windows of servers, in seconds: 1 s, 10 s, 1 min, 5 min, 15 min, 1 h, 1 d.
const COMMON_WINDOWS: [u64; 7] = [1, 10, 60, 300, 900, 3600, 86_400];

/// Maximum difference between two advertised resets that count as the same, because servers round.
const RESET_TOLERANCE: Duration = Duration::from_secs(2);

/// Scenario inferred from a trace.
#[derive(Clone, Debug, PartialEq)]
pub struct InferredScenario {
    pub scenario: Scenario,
    /// Basis of the inference, as sentences.
    pub explanations: Vec<String>,
}

/// Inferred limit and the explanation of its basis.
struct InferredLimit {
    algorithm: LimitAlgorithm,
    explanation: String,
}

impl Trace {
    /// Infers a server that behaves like the one in the trace, and a client with as many requests.
    /// `names` are the names of custom rate limit headers.
    #[must_use]
    pub fn infer_scenario(&self, names: &HeaderNames) -> InferredScenario {
        let records = self.records();
        let headers: Vec<ReportedLimits> =
            records.iter().map(|record| rate_limit_headers(record, names)).collect();
        let outages = infer_outages(records);
        let count = |class| records.iter().filter(|record| record.class() == class).count();
        let accepted = count(ResponseClass::Accepted);
        let limit = limit_from_headers(records, &headers)
            .or_else(|| limit_from_recoveries(records))
            .unwrap_or_else(|| limit_from_busiest_minute(records));
        let latency = infer_latency(records);
        let duration = records.last().map_or(Duration::ZERO, |last| last.at);
        let explanations = vec![
            format!(
                "The trace: {} responses in {}; {accepted} accepted, {} throttled, {} failed, \
                 {} outages.",
                records.len(),
                format_seconds(duration),
                count(ResponseClass::Throttled),
                count(ResponseClass::Failed),
                outages.len()
            ),
            limit.explanation,
            "The trace cannot show a second limit, or a limit that this client never reached."
                .to_owned(),
        ];
        let server = SimulatedServer {
            reset_semantics: infer_reset_semantics(&limit.algorithm, &headers),
            algorithm: limit.algorithm,
            header_mode: infer_header_mode(records, &headers),
            latency: latency.unwrap_or(LATENCY_DEFAULT),
            competing_client: None,
            outages,
        };
        let scenario = Scenario {
            description: "a server like the one in the trace".to_owned(),
            server,
            workers: max_concurrency(records),
            weight: 1,
            stop_condition: StopCondition::Requests(
                u64::try_from(accepted.max(1)).unwrap_or(u64::MAX),
            ),
        };
        InferredScenario { scenario, explanations }
    }
}

fn rate_limit_headers(record: &TraceRecord, names: &HeaderNames) -> ReportedLimits {
    let headers: Vec<(&str, &str)> =
        record.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    parse_headers(&headers, names, timestamp(record))
}

/// Returns the time of a response: by the wall clock, or counted from the start of the trace.
fn timestamp(record: &TraceRecord) -> Timestamp {
    record.wall_clock_ms.map_or_else(|| Timestamp(0).after(record.at), Timestamp)
}

/// Infers the limit from the headers. The lowest rate wins if they advertise several limits.
fn limit_from_headers(
    records: &[TraceRecord],
    headers: &[ReportedLimits],
) -> Option<InferredLimit> {
    let limits = headers.iter().flat_map(|headers| &headers.limits);
    let (quota, window, limit) = limits
        .filter_map(|limit| {
            let quota = limit.quota.filter(|quota| *quota >= 1.0)?;
            let longest = || longest_reset(headers, &limit.name);
            let window = limit.window.or_else(longest).filter(|window| !window.is_zero())?;
            Some((quota, window, limit))
        })
        .min_by(|one, other| {
            Rate::from_units(one.0, one.1)
                .get()
                .total_cmp(&Rate::from_units(other.0, other.1).get())
        })?;
    let quota = to_u32(quota);
    let explanation = format!(
        "Its limit is taken from {}: {quota} in {}.",
        limit.dialect,
        format_seconds(window)
    );
    let algorithm = if has_fixed_reset(records, headers, &limit.name) {
        LimitAlgorithm::FixedWindow { quota, window, phase: Duration::ZERO }
    } else {
        LimitAlgorithm::SlidingLog { quota, window }
    };
    Some(InferredLimit { algorithm, explanation })
}

/// Returns the longest time to an advertised reset, rounded up to a common window.
fn longest_reset(headers: &[ReportedLimits], name: &str) -> Option<Duration> {
    let limits = headers.iter().flat_map(|headers| &headers.limits);
    let resets = limits.filter(|limit| limit.name == name).filter_map(|limit| limit.reset);
    resets.map(|reset| reset.delay).max().map(common_window_for)
}

/// True if at least half of the pairs of consecutive responses advertise the same reset time, which
/// is typical of a fixed window. With a sliding window the reset time moves.
fn has_fixed_reset(records: &[TraceRecord], headers: &[ReportedLimits], name: &str) -> bool {
    let resets: Vec<Timestamp> = records
        .iter()
        .zip(headers)
        .filter_map(|(record, headers)| {
            let limit = headers.limits.iter().find(|limit| limit.name == name)?;
            Some(timestamp(record).after(limit.reset?.delay))
        })
        .collect();
    let is_same = |pair: &[Timestamp]| {
        let [one, other] = pair else { return false };
        one.since(*other).max(other.since(*one)) <= RESET_TOLERANCE
    };
    let same = resets.windows(2).filter(|pair| is_same(pair)).count();
    same * 2 >= resets.len().saturating_sub(1)
}

/// Infers a window from throttled requests: the number of accepted requests and the time between
/// two recoveries.
fn limit_from_recoveries(records: &[TraceRecord]) -> Option<InferredLimit> {
    let mut recoveries = Vec::new();
    let mut is_throttled = false;
    for (index, record) in records.iter().enumerate() {
        match record.class() {
            ResponseClass::Throttled => is_throttled = true,
            ResponseClass::Accepted if is_throttled => {
                recoveries.push(index);
                is_throttled = false;
            }
            ResponseClass::Accepted | ResponseClass::Failed => {}
        }
    }
    let accepted = |from: usize, to: usize| {
        records[from..to].iter().filter(|record| record.class() == ResponseClass::Accepted).count()
    };
    let has_throttled = records.iter().any(|record| record.class() == ResponseClass::Throttled);
    let (first, last) = (recoveries.first().copied(), recoveries.last().copied());
    let (quota, window, basis) = match (first, last) {
        (Some(first), Some(last)) if last > first => {
            let cycles = recoveries.len() - 1;
            let duration = records[last].at.saturating_sub(records[first].at);
            let per_cycle = accepted(first, last).div_ceil(cycles);
            let window = duration / u32::try_from(cycles).unwrap_or(u32::MAX);
            (per_cycle, window, format!("{} recoveries from throttling", recoveries.len()))
        }
        (Some(recovery), _) => (
            accepted(0, recovery),
            records[recovery].at,
            "a single recovery, which is little evidence".to_owned(),
        ),
        (None, _) if has_throttled => {
            let all = accepted(0, records.len());
            let duration = records.last().map_or(Duration::ZERO, |last| last.at);
            (all, duration, "throttling that never ended, which is little evidence".to_owned())
        }
        (None, _) => return None,
    };
    let window = window.max(Duration::from_secs(1));
    let quota = u32::try_from(quota.max(1)).unwrap_or(u32::MAX);
    let explanation =
        format!("Its limit is inferred from {basis}: {quota} in {}.", format_seconds(window));
    Some(InferredLimit {
        algorithm: LimitAlgorithm::FixedWindow { quota, window, phase: Duration::ZERO },
        explanation,
    })
}

/// Uses the busiest minute as the limit. Without headers and throttled requests, it is the only
/// rate that the server is known to accept.
fn limit_from_busiest_minute(records: &[TraceRecord]) -> InferredLimit {
    let minute = Duration::from_secs(60);
    let (mut from, mut busiest) = (0, 1);
    for (index, record) in records.iter().enumerate() {
        while record.at.saturating_sub(records[from].at) >= minute {
            from += 1;
        }
        busiest = busiest.max(index + 1 - from);
    }
    let quota = u32::try_from(busiest).unwrap_or(u32::MAX);
    let explanation = format!(
        "It throttled nothing and advertised no limit: the busiest minute, {quota} responses, is \
         used as the limit; the real one may be far higher."
    );
    InferredLimit {
        algorithm: LimitAlgorithm::FixedWindow { quota, window: minute, phase: Duration::ZERO },
        explanation,
    }
}

/// Returns the header dialect of the first response that has rate limit headers.
fn infer_header_mode(records: &[TraceRecord], headers: &[ReportedLimits]) -> HeaderMode {
    let limit = headers.iter().find_map(|headers| headers.limits.first());
    let meaning = limit
        .and_then(|limit| limit.reset)
        .map_or(ResetMeaning::DeltaSeconds, |reset| reset.meaning);
    match limit.map(|limit| limit.dialect) {
        Some(HeaderDialect::RateLimit) => HeaderMode::RateLimit,
        Some(HeaderDialect::RateLimitLegacy) => HeaderMode::RateLimitLegacy,
        Some(HeaderDialect::XRateLimit | HeaderDialect::Custom) => HeaderMode::XRateLimit(meaning),
        None if records.iter().any(|record| record.header("retry-after").is_some()) => {
            HeaderMode::RetryAfter
        }
        None => HeaderMode::None,
    }
}

/// Infers the reset semantics of a sliding log: the next unit if more than half of the resets are
/// less than half a window ahead, because a full quota is usually further away.
fn infer_reset_semantics(algorithm: &LimitAlgorithm, headers: &[ReportedLimits]) -> ResetSemantics {
    let LimitAlgorithm::SlidingLog { window, .. } = *algorithm else {
        return ResetSemantics::FullQuota;
    };
    let limits = headers.iter().flat_map(|headers| &headers.limits);
    let resets: Vec<Duration> = limits.filter_map(|limit| Some(limit.reset?.delay)).collect();
    let near = resets.iter().filter(|delay| **delay * 2 < window).count();
    if near * 2 > resets.len() { ResetSemantics::NextUnit } else { ResetSemantics::FullQuota }
}

/// Returns the periods with at least [`OUTAGE_FAILURES`] failures in a row that last at least
/// [`OUTAGE_DURATION_MIN`].
fn infer_outages(records: &[TraceRecord]) -> Vec<SimulatedOutage> {
    let runs = records.chunk_by(|one, other| {
        (one.class() == ResponseClass::Failed) == (other.class() == ResponseClass::Failed)
    });
    let (mut outages, mut next) = (Vec::new(), 0);
    for run in runs {
        next += run.len();
        let is_failing = run[0].class() == ResponseClass::Failed && run.len() >= OUTAGE_FAILURES;
        // An outage lasts until the next response that is not a failure, or the end of the trace.
        let end = records.get(next).map_or(run[run.len() - 1].at, |record| record.at);
        let duration = end.saturating_sub(run[0].at);
        if is_failing && duration >= OUTAGE_DURATION_MIN {
            outages.push(SimulatedOutage { start: run[0].at, duration });
        }
    }
    outages
}

/// Infers the latency from the minimum and the mean latency of accepted requests.
fn infer_latency(records: &[TraceRecord]) -> Option<LatencyModel> {
    let accepted = records.iter().filter(|record| record.class() == ResponseClass::Accepted);
    let latencies: Vec<Duration> = accepted.filter_map(|record| record.latency).collect();
    let base = latencies.iter().min().copied()?.max(Duration::from_millis(1));
    let mean =
        latencies.iter().sum::<Duration>() / u32::try_from(latencies.len()).unwrap_or(u32::MAX);
    Some(LatencyModel { base, mean_tail: mean.saturating_sub(base) })
}

/// Returns the maximum number of requests in flight.
fn max_concurrency(records: &[TraceRecord]) -> u32 {
    let requests = records
        .iter()
        .filter_map(|record| Some((record.at.checked_sub(record.latency?)?, record.at)));
    let mut events: Vec<(Duration, bool)> =
        requests.flat_map(|(start, end)| [(start, true), (end, false)]).collect();
    // At the same time `false` sorts first: a request that ends makes room for one that starts.
    events.sort_unstable();
    let (mut in_flight, mut peak) = (0_usize, 0_usize);
    for (_, is_start) in events {
        in_flight = if is_start { in_flight + 1 } else { in_flight.saturating_sub(1) };
        peak = peak.max(in_flight);
    }
    match peak.min(WORKERS_MAX) {
        0 => WORKERS_DEFAULT,
        workers => u32::try_from(workers).unwrap_or(WORKERS_DEFAULT),
    }
}

/// Returns the shortest common window that is at least as long as `duration`, or `duration` itself
/// if it is more than a day.
fn common_window_for(duration: Duration) -> Duration {
    let mut windows = COMMON_WINDOWS.iter().map(|seconds| Duration::from_secs(*seconds));
    windows.find(|window| *window >= duration).unwrap_or(duration)
}

/// Formats a duration in whole seconds, in the notation of the configuration.
fn format_seconds(duration: Duration) -> String {
    duration_literal(Duration::from_secs(duration.as_secs()))
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the cast saturates, and a quota is a whole number"
)]
fn to_u32(quota: f64) -> u32 {
    (quota as u32).max(1)
}
