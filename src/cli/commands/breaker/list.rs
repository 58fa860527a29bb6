//! `breaker list`: state, counts, next step and configuration of each circuit breaker.

use cynosure_engine::breaker::{
    Breaker, BreakerPolicy, BreakerState, BreakerStatistics, FailureRate,
};
use cynosure_engine::{Timestamp, format_count, format_duration, sanitize_line};
use serde::Serialize;

use super::{breaker_names, state_name};
use crate::app::context::AppContext;
use crate::app::error::ProgramError;
use crate::app::exit::ProgramExit;
use crate::cli::print::{print_note, print_result, sorted_json};
use crate::cli::table::table;
use crate::human::{EMPTY_CELL, format_clock_time, format_date_time, format_deadline};
use crate::worker::BreakerStates;

const HEADER: [&str; 5] = ["NAME", "STATE", "FAILURES", "NEXT", "LAST FAILURE"];
const COUNTS_HEADER: [&str; 7] =
    ["NAME", "CALLS", "FAILED", "REJECTED", "OPENED", "COUNTED SINCE", "LAST CHANGE"];

/// Whole output of `breaker list --json`.
#[derive(Serialize)]
struct BreakerListJson<'a> {
    breakers: Vec<BreakerJson<'a>>,
    #[serde(rename = "configuration")]
    policy: PolicyJson,
}

/// State and counts of a breaker.
#[derive(Serialize)]
struct BreakerJson<'a> {
    name: &'a str,
    state: &'static str,
    #[serde(rename = "since")]
    state_since: Timestamp,
    /// Null if it is not open, or is open until a manual close.
    #[serde(rename = "until")]
    open_until: Option<Timestamp>,
    #[serde(rename = "until_closed_by_hand")]
    is_open_until_manual_close: bool,
    /// 0 unless it is closed.
    #[serde(rename = "failures_in_a_row")]
    consecutive_failures: u32,
    /// 0 unless it is half-open.
    #[serde(rename = "successes_in_a_row")]
    consecutive_successes: u32,
    window: WindowJson,
    statistics: BreakerStatistics,
    #[serde(rename = "counted_since")]
    statistics_since: Timestamp,
    last_failure: Option<BreakerFailureJson<'a>>,
    #[serde(rename = "last_change")]
    last_transition: Option<BreakerTransitionJson<'a>>,
}

/// Calls of a closed breaker within its window; 0 in the other states.
#[derive(Serialize)]
struct WindowJson {
    calls: u32,
    failed: u32,
}

#[derive(Serialize)]
struct BreakerFailureJson<'a> {
    cause: &'static str,
    message: &'a str,
    at: Timestamp,
}

#[derive(Serialize)]
struct BreakerTransitionJson<'a> {
    from: &'static str,
    to: &'static str,
    severity: &'static str,
    at: Timestamp,
    #[serde(rename = "why")]
    reason: &'a str,
}

/// Configuration of all breakers.
#[derive(Serialize)]
struct PolicyJson {
    failure_threshold: u32,
    #[serde(rename = "window")]
    window_seconds: f64,
    /// From 0 to 1.
    failure_rate: f64,
    min_calls: u32,
    #[serde(rename = "recovery_timeout")]
    recovery_timeout_seconds: f64,
    #[serde(rename = "max_recovery_timeout")]
    max_recovery_timeout_seconds: f64,
    success_threshold: u32,
}

pub(super) fn list(
    context: &AppContext,
    as_json: bool,
    now: Timestamp,
) -> Result<ProgramExit, ProgramError> {
    let policy = context.loaded.settings.breaker;
    let file = context.state_folder().breakers_file();
    let states = file.read()?.unwrap_or_else(|reason| {
        let path = file.path().display();
        print_note(format!(
            "{path} cannot be read ({reason}); the next run moves it aside and creates a new one"
        ));
        BreakerStates::new()
    });
    let breakers: Vec<Breaker> = breaker_names(context, &states)?
        .iter()
        .map(|name| match states.get(name) {
            Some(state) => Breaker::restore(name, policy, state, now),
            None => Breaker::new(name, policy, now),
        })
        .collect();
    if as_json {
        let list = BreakerListJson {
            breakers: breakers.iter().map(|breaker| breaker_json(breaker, now)).collect(),
            policy: policy_json(policy),
        };
        print_result(format!("{:#}", sorted_json(&list)))?;
        return Ok(ProgramExit::Success);
    }
    let rows: Vec<_> = breakers.iter().map(|breaker| breaker_row(breaker, now)).collect();
    print_result(table(&HEADER, &rows))?;
    let rows: Vec<_> = breakers
        .iter()
        .filter(|breaker| states.contains_key(breaker.name()))
        .map(|breaker| counts_row(breaker, now))
        .collect();
    if !rows.is_empty() {
        print_result(table(&COUNTS_HEADER, &rows))?;
    }
    print_result(policy_text(policy))?;
    Ok(ProgramExit::Success)
}

fn breaker_row(breaker: &Breaker, now: Timestamp) -> Vec<String> {
    let last_failure = breaker.last_failure().map(|failure| {
        format!("{} {}", format_clock_time(failure.at, now), sanitize_line(&failure.message))
    });
    vec![
        sanitize_line(breaker.name()),
        state_name(breaker.state()).to_owned(),
        failures_text(breaker, now),
        next_text(breaker, now),
        last_failure.unwrap_or_else(|| EMPTY_CELL.to_owned()),
    ]
}

/// Returns the progress towards the next state: failures if closed, successes if half-open.
fn failures_text(breaker: &Breaker, now: Timestamp) -> String {
    let policy = breaker.policy();
    match breaker.state() {
        BreakerState::Closed => {
            let rate = breaker.failure_rate(now);
            let consecutive = breaker.consecutive_failures();
            let text = format!("{consecutive} of {} in a row", policy.failure_threshold);
            if rate.failed == 0 {
                return text;
            }
            format!("{text}, {} of {} calls", rate.failed, rate.calls)
        }
        BreakerState::HalfOpen => {
            let successes = breaker.consecutive_successes();
            format!("{successes} of {} successes", policy.success_threshold)
        }
        BreakerState::Open => EMPTY_CELL.to_owned(),
    }
}

fn next_text(breaker: &Breaker, now: Timestamp) -> String {
    match breaker.state() {
        BreakerState::Closed => EMPTY_CELL.to_owned(),
        BreakerState::HalfOpen => "one request at a time".to_owned(),
        BreakerState::Open => match breaker.rejecting_until(now) {
            None => "the next request is a probe".to_owned(),
            Some(Some(until)) => format!("probe {}", format_deadline(until, now)),
            Some(None) => format!("cynosure breaker close {}", sanitize_line(breaker.name())),
        },
    }
}

fn counts_row(breaker: &Breaker, now: Timestamp) -> Vec<String> {
    let statistics = breaker.statistics();
    let transition = breaker.last_transition().map(|transition| {
        let (at, to) = (format_clock_time(transition.at, now), state_name(transition.to));
        format!("{at} {to}: {}", sanitize_line(&transition.reason))
    });
    vec![
        sanitize_line(breaker.name()),
        format_count(statistics.calls),
        format_count(statistics.failures),
        format_count(statistics.rejected),
        format_count(statistics.times_opened),
        format_date_time(breaker.statistics_since()),
        transition.unwrap_or_else(|| EMPTY_CELL.to_owned()),
    ]
}

/// Returns the configuration in two sentences.
fn policy_text(policy: BreakerPolicy) -> String {
    let [window, timeout, max_timeout] =
        [policy.window, policy.recovery_timeout, policy.max_recovery_timeout].map(format_duration);
    format!(
        "A breaker opens after {} failures in a row, or when {:.0} % of at least {} calls failed \
         within {window}.\n\
         It stays open for {timeout}, doubling up to {max_timeout}; then {} successes in a row \
         close it.",
        policy.failure_threshold,
        policy.failure_rate * 100.0,
        policy.min_calls,
        policy.success_threshold,
    )
}

fn breaker_json(breaker: &Breaker, now: Timestamp) -> BreakerJson<'_> {
    let FailureRate { failed, calls } = breaker.failure_rate(now);
    BreakerJson {
        name: breaker.name(),
        state: breaker.state().name(),
        state_since: breaker.state_since(),
        open_until: breaker.open_until(),
        is_open_until_manual_close: breaker.rejecting_until(now) == Some(None),
        consecutive_failures: breaker.consecutive_failures(),
        consecutive_successes: breaker.consecutive_successes(),
        window: WindowJson { calls, failed },
        statistics: breaker.statistics(),
        statistics_since: breaker.statistics_since(),
        last_failure: breaker.last_failure().map(|failure| BreakerFailureJson {
            cause: failure.cause.name(),
            message: &failure.message,
            at: failure.at,
        }),
        last_transition: breaker.last_transition().map(|transition| BreakerTransitionJson {
            from: transition.from.name(),
            to: transition.to.name(),
            severity: transition.severity.name(),
            at: transition.at,
            reason: &transition.reason,
        }),
    }
}

fn policy_json(policy: BreakerPolicy) -> PolicyJson {
    PolicyJson {
        failure_threshold: policy.failure_threshold,
        window_seconds: policy.window.as_secs_f64(),
        failure_rate: policy.failure_rate,
        min_calls: policy.min_calls,
        recovery_timeout_seconds: policy.recovery_timeout.as_secs_f64(),
        max_recovery_timeout_seconds: policy.max_recovery_timeout.as_secs_f64(),
        success_threshold: policy.success_threshold,
    }
}
