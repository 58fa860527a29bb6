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
    Answer, Bound, Latency, Outage, Renewal, Scenario, Served, Server, Shape, Speech, Trace,
};

/// Failures in a row that make an outage rather than bad luck, and the time that they must last.
const OUTAGE_FAILURES: usize = 3;
const OUTAGE_MIN: Duration = Duration::from_secs(5);

/// Where the trace says nothing of it.
const LATENCY: Latency =
    Latency { base: Duration::from_millis(60), spread: Duration::from_millis(40) };
const WORKERS: u32 = 8;
const WORKERS_MAX: usize = 256;

/// The windows that servers have, in seconds: a second, ten, a minute, five, fifteen, an hour, a day.
const WINDOWS: [u64; 7] = [1, 10, 60, 300, 900, 3600, 86_400];

/// A reset that is told again and again may differ by rounding.
const SAME_RESET: Duration = Duration::from_secs(2);

/// A scenario out of a trace.
#[derive(Clone, Debug, PartialEq)]
pub struct Traced {
    pub scenario: Scenario,
    /// What the guess rests on, a sentence each.
    pub told: Vec<String>,
}

/// How a limit was found.
struct Found {
    shape: Shape,
    told: String,
}

impl Trace {
    /// Makes up a server that does what the trace shows, and a client with as much to ask. The
    /// server may have `names` of its own for its headers.
    #[must_use]
    pub fn model(&self, names: &HeaderNames) -> Traced {
        let answers = self.answers();
        let signals: Vec<RateLimitHeaders> =
            answers.iter().map(|answer| signals(answer, names)).collect();
        let outages = outages(answers);
        let count = |served| answers.iter().filter(|answer| answer.served() == served).count();
        let accepted = count(Served::Accepted);
        let found = by_headers(answers, &signals)
            .or_else(|| by_cycles(answers))
            .unwrap_or_else(|| by_busiest(answers));
        let latency = latency(answers);
        let whole = answers.last().map_or(Duration::ZERO, |last| last.at);
        let told = vec![
            format!(
                "The trace: {} answers in {}; {accepted} accepted, {} refused, {} failed, in {} outages.",
                answers.len(),
                seconds(whole),
                count(Served::Throttled),
                count(Served::Failed),
                outages.len()
            ),
            found.told,
            "It shows what the server did to that client: a second limit, or one that was never met, is not in it."
                .to_owned(),
        ];
        let server = Server {
            renewal: renewal(&found.shape, &signals),
            shape: found.shape,
            speech: speech(answers, &signals),
            latency: latency.unwrap_or(LATENCY),
            neighbour: None,
            outages,
        };
        let scenario = Scenario {
            about: "a server like the one in the trace".to_owned(),
            server,
            workers: workers(answers),
            weight: 1,
            until: Bound::Requests(u64::try_from(accepted.max(1)).unwrap_or(u64::MAX)),
        };
        Traced { scenario, told }
    }
}

fn signals(answer: &Answer, names: &HeaderNames) -> RateLimitHeaders {
    let headers: Vec<(&str, &str)> =
        answer.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    parse_headers(&headers, names, moment(answer))
}

/// When an answer came, in a count that any other answer of the trace shares.
fn moment(answer: &Answer) -> Timestamp {
    answer.clock.map_or_else(|| Timestamp(0).after(answer.at), Timestamp)
}

/// The limit that the headers tell of, the tightest if there are several.
fn by_headers(answers: &[Answer], signals: &[RateLimitHeaders]) -> Option<Found> {
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
    let quota = whole(quota);
    let told =
        format!("Its limit is taken from {}: {quota} in {}.", limit.dialect, seconds(window));
    let shape = if stands_still(answers, signals, &limit.name) {
        Shape::FixedWindow { quota, window, phase: Duration::ZERO }
    } else {
        Shape::SlidingLog { quota, window }
    };
    Some(Found { shape, told })
}

/// The longest time to a reset that was told, as the next window that servers have.
fn longest_reset(signals: &[RateLimitHeaders], name: &str) -> Option<Duration> {
    let limits = signals.iter().flat_map(|signals| &signals.limits);
    let resets = limits.filter(|limit| limit.name == name).filter_map(|limit| limit.reset);
    resets.map(|reset| reset.delay).max().map(window_like)
}

/// Whether the reset is the same moment for several answers, as with a window, rather than moving along.
fn stands_still(answers: &[Answer], signals: &[RateLimitHeaders], name: &str) -> bool {
    let resets: Vec<Timestamp> = answers
        .iter()
        .zip(signals)
        .filter_map(|(answer, signals)| {
            let limit = signals.limits.iter().find(|limit| limit.name == name)?;
            Some(moment(answer).after(limit.reset?.delay))
        })
        .collect();
    let is_same = |pair: &[Timestamp]| {
        let [one, other] = pair else { return false };
        one.since(*other).max(other.since(*one)) <= SAME_RESET
    };
    let still = resets.windows(2).filter(|pair| is_same(pair)).count();
    still * 2 >= resets.len().saturating_sub(1)
}

/// A window out of refusals: what was accepted from one recovery to the next, and how long that took.
fn by_cycles(answers: &[Answer]) -> Option<Found> {
    let mut recoveries = Vec::new();
    let mut is_refused = false;
    for (index, answer) in answers.iter().enumerate() {
        match answer.served() {
            Served::Throttled => is_refused = true,
            Served::Accepted if is_refused => {
                recoveries.push(index);
                is_refused = false;
            }
            Served::Accepted | Served::Failed => {}
        }
    }
    let accepted = |from: usize, to: usize| {
        answers[from..to].iter().filter(|answer| answer.served() == Served::Accepted).count()
    };
    let refused = answers.iter().any(|answer| answer.served() == Served::Throttled);
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
    let told = format!("Its limit is guessed from {told}: {quota} in {}.", seconds(window));
    Some(Found { shape: Shape::FixedWindow { quota, window, phase: Duration::ZERO }, told })
}

/// Where nothing was refused, the busiest minute is all that is known to be borne.
fn by_busiest(answers: &[Answer]) -> Found {
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
    Found { shape: Shape::FixedWindow { quota, window: minute, phase: Duration::ZERO }, told }
}

/// The family of headers that the answers have, by the first that has any.
fn speech(answers: &[Answer], signals: &[RateLimitHeaders]) -> Speech {
    let limit = signals.iter().find_map(|signals| signals.limits.first());
    let meaning = limit
        .and_then(|limit| limit.reset)
        .map_or(ResetMeaning::DeltaSeconds, |reset| reset.meaning);
    match limit.map(|limit| limit.dialect) {
        Some(HeaderDialect::RateLimit) => Speech::RateLimit,
        Some(HeaderDialect::RateLimitLegacy) => Speech::RateLimitOld,
        Some(HeaderDialect::XRateLimit | HeaderDialect::Custom) => Speech::XRateLimit(meaning),
        None if answers.iter().any(|answer| answer.header("retry-after").is_some()) => {
            Speech::RetryAfter
        }
        None => Speech::Nothing,
    }
}

/// What the resets name: the next unit is most often near, everything always far away.
fn renewal(shape: &Shape, signals: &[RateLimitHeaders]) -> Renewal {
    let Shape::SlidingLog { window, .. } = *shape else { return Renewal::All };
    let limits = signals.iter().flat_map(|signals| &signals.limits);
    let resets: Vec<Duration> = limits.filter_map(|limit| Some(limit.reset?.delay)).collect();
    let near = resets.iter().filter(|after| **after * 2 < window).count();
    if near * 2 > resets.len() { Renewal::Next } else { Renewal::All }
}

/// Spans without anything but failures.
fn outages(answers: &[Answer]) -> Vec<Outage> {
    let runs = answers.chunk_by(|one, other| {
        (one.served() == Served::Failed) == (other.served() == Served::Failed)
    });
    let (mut found, mut next) = (Vec::new(), 0);
    for run in runs {
        next += run.len();
        let is_failing = run[0].served() == Served::Failed && run.len() >= OUTAGE_FAILURES;
        // It lasts until something else comes, or to the end of the trace.
        let end = answers.get(next).map_or(run[run.len() - 1].at, |after| after.at);
        let lasts = end.saturating_sub(run[0].at);
        if is_failing && lasts >= OUTAGE_MIN {
            found.push(Outage { from: run[0].at, lasts });
        }
    }
    found
}

/// The least and the mean of what accepted requests took.
fn latency(answers: &[Answer]) -> Option<Latency> {
    let accepted = answers.iter().filter(|answer| answer.served() == Served::Accepted);
    let took: Vec<Duration> = accepted.filter_map(|answer| answer.took).collect();
    let base = took.iter().min().copied()?.max(Duration::from_millis(1));
    let mean = took.iter().sum::<Duration>() / u32::try_from(took.len()).unwrap_or(u32::MAX);
    Some(Latency { base, spread: mean.saturating_sub(base) })
}

/// How many requests were under way at once, at most.
fn workers(answers: &[Answer]) -> u32 {
    let spans =
        answers.iter().filter_map(|answer| Some((answer.at.checked_sub(answer.took?)?, answer.at)));
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
        0 => WORKERS,
        most => u32::try_from(most).unwrap_or(WORKERS),
    }
}

/// The shortest window of servers that holds so long a time; beyond a day, the time itself.
fn window_like(longest: Duration) -> Duration {
    let known = WINDOWS.iter().map(|seconds| Duration::from_secs(*seconds));
    known.into_iter().find(|window| *window >= longest).unwrap_or(longest)
}

/// A span to the second, as it is written in files.
fn seconds(span: Duration) -> String {
    duration_literal(Duration::from_secs(span.as_secs()))
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the cast saturates, and a quota is a whole number"
)]
fn whole(quota: f64) -> u32 {
    (quota as u32).max(1)
}
