//! `breaker list`: the breakers as a person wants them at three in the morning.

use serde_json::{Value, json};

use super::{breaker_names, state_name};
use crate::cli::context::AppContext;
use crate::cli::error::CliError;
use crate::cli::exit::ProgramExit;
use crate::cli::print::{print_note, print_result};
use crate::cli::table::table;
use crate::engine::breaker::{Breaker, BreakerPolicy, BreakerState};
use crate::engine::{Timestamp, sanitize_line};
use crate::human::{
    EMPTY_CELL, format_clock_time, format_count, format_date_time, format_deadline,
    format_duration, format_utc,
};
use crate::worker::{BreakerStates, BreakersFile, breaker_policy};

const HEADER: [&str; 5] = ["NAME", "STATE", "FAILURES", "NEXT", "LAST FAILURE"];
const COUNTS_HEADER: [&str; 7] =
    ["NAME", "CALLS", "FAILED", "REJECTED", "OPENED", "COUNTED SINCE", "LAST CHANGE"];

pub(super) fn list(
    ground: &AppContext,
    as_json: bool,
    now: Timestamp,
) -> Result<ProgramExit, CliError> {
    let policy = breaker_policy(&ground.loaded.settings);
    let file = BreakersFile::new(&ground.state_dir);
    let memories = file.read()?.unwrap_or_else(|why| {
        let path = file.path().display();
        print_note(format!(
            "{path} cannot be read ({why}); the next run puts it aside and begins anew"
        ));
        BreakerStates::new()
    });
    let breakers: Vec<Breaker> = breaker_names(ground, &memories)?
        .iter()
        .map(|name| match memories.get(name) {
            Some(memory) => Breaker::restore(name, policy, memory, now),
            None => Breaker::new(name, policy, now),
        })
        .collect();
    if as_json {
        let list: Vec<Value> = breakers.iter().map(|breaker| breaker_json(breaker, now)).collect();
        print_result(format!(
            "{:#}",
            json!({ "breakers": list, "configuration": policy_json(policy) })
        ))?;
        return Ok(ProgramExit::Success);
    }
    let rows: Vec<_> = breakers.iter().map(|breaker| breaker_row(breaker, now)).collect();
    print_result(table(&HEADER, &rows))?;
    let rows: Vec<_> = breakers
        .iter()
        .filter(|breaker| memories.contains_key(breaker.name()))
        .map(|breaker| counts_row(breaker, now))
        .collect();
    if !rows.is_empty() {
        print_result(table(&COUNTS_HEADER, &rows))?;
    }
    print_result(policy_text(policy))?;
    Ok(ProgramExit::Success)
}

fn breaker_row(breaker: &Breaker, now: Timestamp) -> Vec<String> {
    let last = breaker.last_failure().map(|failure| {
        format!("{} {}", format_clock_time(failure.at, now), sanitize_line(&failure.message))
    });
    vec![
        sanitize_line(breaker.name()),
        state_name(breaker.state()).to_owned(),
        failures_text(breaker, now),
        next_text(breaker, now),
        last.unwrap_or_else(|| EMPTY_CELL.to_owned()),
    ]
}

/// How near it is to another state.
fn failures_text(breaker: &Breaker, now: Timestamp) -> String {
    let policy = breaker.policy();
    match breaker.state() {
        BreakerState::Closed => {
            let share = breaker.failure_rate(now);
            let row = breaker.consecutive_failures();
            let row = format!("{row} of {} in a row", policy.failure_threshold);
            if share.failed == 0 {
                return row;
            }
            format!("{row}, {} of {}", share.failed, share.calls)
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
            None => "the next request may try".to_owned(),
            Some(Some(until)) => format!("one may try {}", format_deadline(until, now)),
            Some(None) => format!("cynosure breaker close {}", sanitize_line(breaker.name())),
        },
    }
}

fn counts_row(breaker: &Breaker, now: Timestamp) -> Vec<String> {
    let statistics = breaker.statistics();
    let change = breaker.last_transition().map(|change| {
        let (at, to) = (format_clock_time(change.at, now), state_name(change.to));
        format!("{at} {to}: {}", sanitize_line(&change.reason))
    });
    vec![
        sanitize_line(breaker.name()),
        format_count(statistics.calls),
        format_count(statistics.failures),
        format_count(statistics.rejected),
        format_count(statistics.times_opened),
        format_date_time(breaker.statistics_since()),
        change.unwrap_or_else(|| EMPTY_CELL.to_owned()),
    ]
}

/// The configuration in two sentences.
fn policy_text(policy: BreakerPolicy) -> String {
    let [window, first, longest] =
        [policy.window, policy.recovery_timeout, policy.max_recovery_timeout].map(format_duration);
    format!(
        "Each opens after {} failures in a row, or when {:.0} % of {} calls or more failed in {window}.\n\
         It stays open for {first}, doubling to {longest}; then {} successes in a row close it.",
        policy.failure_threshold,
        policy.failure_rate * 100.0,
        policy.min_calls,
        policy.success_threshold,
    )
}

fn breaker_json(breaker: &Breaker, now: Timestamp) -> Value {
    let (statistics, share) = (breaker.statistics(), breaker.failure_rate(now));
    json!({
        "name": breaker.name(),
        "state": breaker.state().name(),
        "since": format_utc(breaker.state_since()),
        "until": breaker.open_until().map(format_utc),
        "until_closed_by_hand": breaker.rejecting_until(now) == Some(None),
        "failures_in_a_row": breaker.consecutive_failures(),
        "successes_in_a_row": breaker.consecutive_successes(),
        "window": { "calls": share.calls, "failed": share.failed },
        "statistics": statistics,
        "counted_since": format_utc(breaker.statistics_since()),
        "last_failure": breaker.last_failure().map(|failure| json!({
            "cause": failure.cause.name(), "message": failure.message, "at": format_utc(failure.at),
        })),
        "last_change": breaker.last_transition().map(|change| json!({
            "from": change.from.name(), "to": change.to.name(),
            "severity": change.severity.name(), "at": format_utc(change.at), "why": change.reason,
        })),
    })
}

/// Durations in seconds.
fn policy_json(policy: BreakerPolicy) -> Value {
    json!({
        "failure_threshold": policy.failure_threshold,
        "window": policy.window.as_secs_f64(),
        "failure_rate": policy.failure_rate,
        "min_calls": policy.min_calls,
        "recovery_timeout": policy.recovery_timeout.as_secs_f64(),
        "max_recovery_timeout": policy.max_recovery_timeout.as_secs_f64(),
        "success_threshold": policy.success_threshold,
    })
}
