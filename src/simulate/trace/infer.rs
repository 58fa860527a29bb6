//! From what a server did to a made-up server that does the like.
//!
//! It is a guess, and says on what it rests. A trace shows what the server did to one client at that client's
//! pace: a limit that was never met is not in it.

use std::time::Duration;

use crate::config::duration_literal;
use crate::engine::Timestamp;
use crate::engine::rate_limit::{
    HeaderDialect, HeaderNames, Rate, RateLimitHeaders, ResetMeaning, parse_headers,
};
use crate::simulate::{
    HeaderMode, LatencyModel, LimitAlgorithm, ResetSemantics, ResponseClass, Scenario,
    SimulatedOutage, SimulatedServer, StopCondition, Trace, TraceRecord,
};

/// Failures in a row that make an outage rather than bad luck, and the time that they must last.
const OUTAGE_FAILURES: usize = 3;
const OUTAGE_DURATION_MIN: Duration = Duration::from_secs(5);

/// Where the trace says nothing of it.
const LATENCY_DEFAULT: LatencyModel =
    LatencyModel { base: Duration::from_millis(60), mean_tail: Duration::from_millis(40) };
const WORKERS_DEFAULT: u32 = 8;
const WORKERS_MAX: usize = 256;

/// The windows that servers have, in seconds: a second, ten, a minute, five, fifteen, an hour, a day.
const COMMON_WINDOWS: [u64; 7] = [1, 10, 60, 300, 900, 3600, 86_400];

/// A reset that is told again and again may differ by rounding.
const RESET_TOLERANCE: Duration = Duration::from_secs(2);

/// A scenario out of a trace.
#[derive(Clone, Debug, PartialEq)]
pub struct InferredScenario {
    pub scenario: Scenario,
    /// What the guess rests on, a sentence each.
    pub explanations: Vec<String>,
}

/// How a limit was found.
struct InferredLimit {
    algorithm: LimitAlgorithm,
    explanation: String,
}

impl Trace {
    /// Makes up a server that does what the trace shows, and a client with as much to ask. The
    /// server may have `names` of its own for its headers.
    #[must_use]
    pub fn infer_scenario(&self, names: &HeaderNames) -> InferredScenario {
        let answers = self.records();
        let signals: Vec<RateLimitHeaders> =
            answers.iter().map(|answer| rate_limit_headers(answer, names)).collect();
        let outages = infer_outages(answers);
        let count = |served| answers.iter().filter(|answer| answer.class() == served).count();
        let accepted = count(ResponseClass::Accepted);
        let found = limit_from_headers(answers, &signals)
            .or_else(|| limit_from_recoveries(answers))
            .unwrap_or_else(|| limit_from_busiest_minute(answers));
        let latency = infer_latency(answers);
        let whole = answers.last().map_or(Duration::ZERO, |last| last.at);
        let told = vec![
            format!(
                "The trace: {} answers in {}; {accepted} accepted, {} refused, {} failed, in {} outages.",
                answers.len(),
                format_seconds(whole),
                count(ResponseClass::Throttled),
                count(ResponseClass::Failed),
                outages.len()
            ),
            found.explanation,
            "It shows what the server did to that client: a second limit, or one that was never met, is not in it."
                .to_owned(),
        ];
        let server = SimulatedServer {
            reset_semantics: infer_reset_semantics(&found.algorithm, &signals),
            algorithm: found.algorithm,
            header_mode: infer_header_mode(answers, &signals),
            latency: latency.unwrap_or(LATENCY_DEFAULT),
            competing_client: None,
            outages,
        };
        let scenario = Scenario {
            description: "a server like the one in the trace".to_owned(),
            server,
            workers: max_concurrency(answers),
            weight: 1,
            stop_condition: StopCondition::Requests(
                u64::try_from(accepted.max(1)).unwrap_or(u64::MAX),
            ),
        };
        InferredScenario { scenario, explanations: told }
    }
}

fn rate_limit_headers(answer: &TraceRecord, names: &HeaderNames) -> RateLimitHeaders {
    let headers: Vec<(&str, &str)> =
        answer.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    parse_headers(&headers, names, timestamp(answer))
}

/// When an answer came, in a count that any other answer of the trace shares.
fn timestamp(answer: &TraceRecord) -> Timestamp {
    answer.wall_clock_ms.map_or_else(|| Timestamp(0).after(answer.at), Timestamp)
}

/// The limit that the headers tell of, the tightest if there are several.
fn limit_from_headers(
    answers: &[TraceRecord],
    signals: &[RateLimitHeaders],
) -> Option<InferredLimit> {
    let limits = signals.iter().flat_map(|signals| &signals.limits);
    let tightest = limits
        .filter_map(|limit| {
            let quota = limit.quota.filter(|quota| *quota >= 1.0)?;
            let longest = || longest_reset(signals, &limit.name);
            let window = limit.window.or_else(longest).filter(|window| !window.is_zero())?;
            Some((quota, window, limit))
        })
        .min_by(|one, other| {
            Rate::from_units(one.0, one.1)
                .get()
                .total_cmp(&Rate::from_units(other.0, other.1).get())
        })?;
    let (quota, window, limit) = tightest;
    let quota = to_u32(quota);
    let told = format!(
        "Its limit is taken from {}: {quota} in {}.",
        limit.dialect,
        format_seconds(window)
    );
    let shape = if has_fixed_reset(answers, signals, &limit.name) {
        LimitAlgorithm::FixedWindow { quota, window, phase: Duration::ZERO }
    } else {
        LimitAlgorithm::SlidingLog { quota, window }
    };
    Some(InferredLimit { algorithm: shape, explanation: told })
}

/// The longest time to a reset that was told, as the next window that servers have.
fn longest_reset(signals: &[RateLimitHeaders], name: &str) -> Option<Duration> {
    let limits = signals.iter().flat_map(|signals| &signals.limits);
    let resets = limits.filter(|limit| limit.name == name).filter_map(|limit| limit.reset);
    resets.map(|reset| reset.delay).max().map(common_window_for)
}

/// Whether the reset is the same moment for several answers, as with a window, rather than moving along.
fn has_fixed_reset(answers: &[TraceRecord], signals: &[RateLimitHeaders], name: &str) -> bool {
    let resets: Vec<Timestamp> = answers
        .iter()
        .zip(signals)
        .filter_map(|(answer, signals)| {
            let limit = signals.limits.iter().find(|limit| limit.name == name)?;
            Some(timestamp(answer).after(limit.reset?.delay))
        })
        .collect();
    let is_same = |pair: &[Timestamp]| {
        let [one, other] = pair else { return false };
        one.since(*other).max(other.since(*one)) <= RESET_TOLERANCE
    };
    let still = resets.windows(2).filter(|pair| is_same(pair)).count();
    still * 2 >= resets.len().saturating_sub(1)
}

/// A window out of refusals: what was accepted from one recovery to the next, and how long that took.
fn limit_from_recoveries(answers: &[TraceRecord]) -> Option<InferredLimit> {
    let mut recoveries = Vec::new();
    let mut is_refused = false;
    for (index, answer) in answers.iter().enumerate() {
        match answer.class() {
            ResponseClass::Throttled => is_refused = true,
            ResponseClass::Accepted if is_refused => {
                recoveries.push(index);
                is_refused = false;
            }
            ResponseClass::Accepted | ResponseClass::Failed => {}
        }
    }
    let accepted = |from: usize, to: usize| {
        answers[from..to].iter().filter(|answer| answer.class() == ResponseClass::Accepted).count()
    };
    let refused = answers.iter().any(|answer| answer.class() == ResponseClass::Throttled);
    let (first, last) = (recoveries.first().copied(), recoveries.last().copied());
    let (quota, window, told) = match (first, last) {
        (Some(first), Some(last)) if last > first => {
            let cycles = recoveries.len() - 1;
            let whole = answers[last].at.saturating_sub(answers[first].at);
            let per_cycle = accepted(first, last).div_ceil(cycles);
            let length = whole / u32::try_from(cycles).unwrap_or(u32::MAX);
            (per_cycle, length, format!("{} recoveries from refusals", recoveries.len()))
        }
        (Some(recovery), _) => (
            accepted(0, recovery),
            answers[recovery].at,
            "a single recovery, which is little".to_owned(),
        ),
        (None, _) if refused => {
            let all = accepted(0, answers.len());
            let whole = answers.last().map_or(Duration::ZERO, |last| last.at);
            (all, whole, "refusals that never ended, which is little".to_owned())
        }
        (None, _) => return None,
    };
    let window = window.max(Duration::from_secs(1));
    let quota = u32::try_from(quota.max(1)).unwrap_or(u32::MAX);
    let told = format!("Its limit is guessed from {told}: {quota} in {}.", format_seconds(window));
    Some(InferredLimit {
        algorithm: LimitAlgorithm::FixedWindow { quota, window, phase: Duration::ZERO },
        explanation: told,
    })
}

/// Where nothing was refused, the busiest minute is all that is known to be borne.
fn limit_from_busiest_minute(answers: &[TraceRecord]) -> InferredLimit {
    let minute = Duration::from_secs(60);
    let (mut from, mut busiest) = (0, 1);
    for (index, answer) in answers.iter().enumerate() {
        while answer.at.saturating_sub(answers[from].at) >= minute {
            from += 1;
        }
        busiest = busiest.max(index + 1 - from);
    }
    let quota = u32::try_from(busiest).unwrap_or(u32::MAX);
    let told = format!(
        "It refused nothing and told of no limit: its busiest minute, {quota} answers, is taken for one, \
         which the true one may lie far above."
    );
    InferredLimit {
        algorithm: LimitAlgorithm::FixedWindow { quota, window: minute, phase: Duration::ZERO },
        explanation: told,
    }
}

/// The family of headers that the answers have, by the first that has any.
fn infer_header_mode(answers: &[TraceRecord], signals: &[RateLimitHeaders]) -> HeaderMode {
    let limit = signals.iter().find_map(|signals| signals.limits.first());
    let meaning = limit
        .and_then(|limit| limit.reset)
        .map_or(ResetMeaning::DeltaSeconds, |reset| reset.meaning);
    match limit.map(|limit| limit.dialect) {
        Some(HeaderDialect::RateLimit) => HeaderMode::RateLimit,
        Some(HeaderDialect::RateLimitLegacy) => HeaderMode::RateLimitOld,
        Some(HeaderDialect::XRateLimit | HeaderDialect::Custom) => HeaderMode::XRateLimit(meaning),
        None if answers.iter().any(|answer| answer.header("retry-after").is_some()) => {
            HeaderMode::RetryAfter
        }
        None => HeaderMode::None,
    }
}

/// What the resets name: the next unit is most often near, everything always far away.
fn infer_reset_semantics(shape: &LimitAlgorithm, signals: &[RateLimitHeaders]) -> ResetSemantics {
    let LimitAlgorithm::SlidingLog { window, .. } = *shape else {
        return ResetSemantics::FullQuota;
    };
    let limits = signals.iter().flat_map(|signals| &signals.limits);
    let resets: Vec<Duration> = limits.filter_map(|limit| Some(limit.reset?.delay)).collect();
    let near = resets.iter().filter(|after| **after * 2 < window).count();
    if near * 2 > resets.len() { ResetSemantics::NextUnit } else { ResetSemantics::FullQuota }
}

/// Spans without anything but failures.
fn infer_outages(answers: &[TraceRecord]) -> Vec<SimulatedOutage> {
    let runs = answers.chunk_by(|one, other| {
        (one.class() == ResponseClass::Failed) == (other.class() == ResponseClass::Failed)
    });
    let (mut found, mut next) = (Vec::new(), 0);
    for run in runs {
        next += run.len();
        let is_failing = run[0].class() == ResponseClass::Failed && run.len() >= OUTAGE_FAILURES;
        // It lasts until something else comes, or to the end of the trace.
        let end = answers.get(next).map_or(run[run.len() - 1].at, |after| after.at);
        let lasts = end.saturating_sub(run[0].at);
        if is_failing && lasts >= OUTAGE_DURATION_MIN {
            found.push(SimulatedOutage { start: run[0].at, duration: lasts });
        }
    }
    found
}

/// The least and the mean of what accepted requests took.
fn infer_latency(answers: &[TraceRecord]) -> Option<LatencyModel> {
    let accepted = answers.iter().filter(|answer| answer.class() == ResponseClass::Accepted);
    let took: Vec<Duration> = accepted.filter_map(|answer| answer.latency).collect();
    let base = took.iter().min().copied()?.max(Duration::from_millis(1));
    let mean = took.iter().sum::<Duration>() / u32::try_from(took.len()).unwrap_or(u32::MAX);
    Some(LatencyModel { base, mean_tail: mean.saturating_sub(base) })
}

/// How many requests were under way at once, at most.
fn max_concurrency(answers: &[TraceRecord]) -> u32 {
    let spans = answers
        .iter()
        .filter_map(|answer| Some((answer.at.checked_sub(answer.latency?)?, answer.at)));
    let mut ends: Vec<(Duration, bool)> =
        spans.flat_map(|(from, to)| [(from, true), (to, false)]).collect();
    // At one moment what ends makes room for what begins.
    ends.sort_unstable();
    let (mut now, mut most) = (0_usize, 0_usize);
    for (_, begins) in ends {
        now = if begins { now + 1 } else { now.saturating_sub(1) };
        most = most.max(now);
    }
    match most.min(WORKERS_MAX) {
        0 => WORKERS_DEFAULT,
        most => u32::try_from(most).unwrap_or(WORKERS_DEFAULT),
    }
}

/// The shortest window of servers that holds so long a time; beyond a day, the time itself.
fn common_window_for(longest: Duration) -> Duration {
    let known = COMMON_WINDOWS.iter().map(|seconds| Duration::from_secs(*seconds));
    known.into_iter().find(|window| *window >= longest).unwrap_or(longest)
}

/// A span to the second, as it is written in files.
fn format_seconds(span: Duration) -> String {
    duration_literal(Duration::from_secs(span.as_secs()))
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the cast saturates, and a quota is a whole number"
)]
fn to_u32(quota: f64) -> u32 {
    (quota as u32).max(1)
}
