//! Persisted form of a breaker.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::history::TRANSITIONS_MAX;
use super::window::{CallSubject, CallWindow, FailureStreak, RecordedFailure, WINDOW_CALLS_MAX};
use super::{
    Breaker, BreakerPolicy, BreakerState, BreakerStatistics, BreakerTransition, LastFailure,
    StateData,
};
use crate::engine::{Cause, Timestamp};

/// Time buckets into which the successes of the window are grouped.
const WINDOW_BUCKETS: i64 = 10;

/// Persisted form of a breaker. Every field has a default, so that files of older and newer
/// versions can be read.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct PersistedBreaker {
    /// `closed`, `open` or `half_open`; an unknown value is read as `closed`.
    pub state: String,
    /// Number of the last change. A process that finds another number than its own knows that
    /// another process has changed the state since.
    pub generation: u64,
    /// Milliseconds since the Unix epoch, like every time here.
    #[serde(rename = "since")]
    pub state_since: i64,
    /// Time from which an open breaker admits a probe; null: after a manual close only.
    #[serde(rename = "until")]
    pub open_until: Option<i64>,
    /// Times it opened since it was last closed.
    #[serde(rename = "openings")]
    pub consecutive_opens: u32,
    /// Consecutive successes of a half-open breaker.
    pub successes: u32,
    /// Items that failed before it opened or while it was half-open.
    #[serde(rename = "ill")]
    pub failed_items: Vec<PersistedFailure>,
    /// Consecutive failures of a closed breaker.
    #[serde(rename = "row")]
    pub failure_streak: Vec<PersistedFailure>,
    /// Newest calls of a closed breaker.
    pub window: PersistedWindow,
    pub statistics: BreakerStatistics,
    #[serde(rename = "counted_since")]
    pub statistics_since: i64,
    pub last_failure: Option<PersistedLastFailure>,
    #[serde(rename = "last_change")]
    pub last_transition: Option<PersistedTransition>,
    /// Recent transitions with their generations, newest last, for readers that read the file only
    /// occasionally.
    #[serde(rename = "changes")]
    pub transitions: Vec<PersistedTransition>,
}

#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct PersistedFailure {
    /// Name of the item; null: the service as a whole.
    pub item: Option<String>,
    pub at: i64,
}

#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct PersistedWindow {
    pub successes: Vec<PersistedBucket>,
    pub failures: Vec<PersistedFailure>,
}

/// Successes within one time bucket.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct PersistedBucket {
    pub at: i64,
    pub count: usize,
}

#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct PersistedLastFailure {
    pub cause: String,
    pub message: String,
    pub at: i64,
}

#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct PersistedTransition {
    /// Generation after the transition.
    #[serde(rename = "no")]
    pub generation: u64,
    pub from: String,
    pub to: String,
    pub at: i64,
    #[serde(rename = "why")]
    pub reason: String,
}

/// Converts a breaker to its persisted form.
pub(super) fn encode(breaker: &Breaker) -> PersistedBreaker {
    let (state, until, successes, row, window) = match &breaker.state {
        StateData::Closed { failure_streak: row, window } => {
            let slice = i64::try_from(breaker.policy.window.as_millis()).unwrap_or(i64::MAX);
            (
                BreakerState::Closed,
                None,
                0,
                encode_streak(row),
                encode_window(window, slice / WINDOW_BUCKETS),
            )
        }
        StateData::Open { until } => {
            (BreakerState::Open, *until, 0, Vec::new(), PersistedWindow::default())
        }
        StateData::HalfOpen { successes, .. } => {
            (BreakerState::HalfOpen, None, *successes, Vec::new(), PersistedWindow::default())
        }
    };
    PersistedBreaker {
        state: state.name().to_owned(),
        generation: breaker.generation,
        state_since: breaker.state_since.0,
        open_until: until.map(|until| until.0),
        consecutive_opens: breaker.consecutive_opens,
        successes,
        failed_items: encode_streak(&breaker.failed_items),
        failure_streak: row,
        window,
        statistics: breaker.statistics,
        statistics_since: breaker.statistics_since.0,
        last_failure: breaker.last_failure.as_ref().map(|failure| PersistedLastFailure {
            cause: failure.cause.name().to_owned(),
            message: failure.message.clone(),
            at: failure.at.0,
        }),
        last_transition: breaker.last_transition.as_ref().map(PersistedTransition::from),
        transitions: breaker.transitions.iter().map(PersistedTransition::from).collect(),
    }
}

/// Restores a breaker. Old failures count less, calls older than the window not at all; an open
/// breaker stays open until its own end time.
pub(super) fn decode(
    name: &str,
    policy: BreakerPolicy,
    memory: &PersistedBreaker,
    now: Timestamp,
) -> Breaker {
    let state = match BreakerState::from_name(&memory.state) {
        Some(BreakerState::Open) => StateData::Open { until: memory.open_until.map(Timestamp) },
        Some(BreakerState::HalfOpen) => {
            let row = FailureStreak::default();
            StateData::HalfOpen {
                successes: memory.successes,
                failure_streak: row,
                is_probe_in_flight: false,
            }
        }
        Some(BreakerState::Closed) | None => {
            let mut row = FailureStreak {
                failures: memory.failure_streak.iter().map(RecordedFailure::from).collect(),
            };
            row.decay(policy.window, now);
            let mut window = decode_window(&memory.window);
            window.evict_stale(policy.window, now);
            StateData::Closed { failure_streak: row, window }
        }
    };
    Breaker {
        state,
        state_since: Timestamp(memory.state_since),
        generation: memory.generation,
        consecutive_opens: memory.consecutive_opens,
        failed_items: FailureStreak {
            failures: memory.failed_items.iter().map(RecordedFailure::from).collect(),
        },
        statistics: memory.statistics,
        statistics_since: Timestamp(memory.statistics_since),
        last_failure: memory.last_failure.as_ref().map(|failure| LastFailure {
            cause: Cause::from_name(&failure.cause).unwrap_or(Cause::Unknown),
            message: failure.message.clone(),
            at: Timestamp(failure.at),
        }),
        last_transition: memory
            .last_transition
            .as_ref()
            .and_then(|change| decode_transition(name, change)),
        transitions: decode_transitions(name, memory),
        ..Breaker::new(name, policy, now)
    }
}

fn decode_transition(name: &str, memory: &PersistedTransition) -> Option<BreakerTransition> {
    let to = BreakerState::from_name(&memory.to)?;
    Some(BreakerTransition {
        breaker: name.to_owned(),
        generation: memory.generation,
        from: BreakerState::from_name(&memory.from)?,
        to,
        severity: to.severity(),
        at: Timestamp(memory.at),
        reason: memory.reason.clone(),
    })
}

fn decode_transitions(name: &str, memory: &PersistedBreaker) -> Vec<BreakerTransition> {
    let changes = memory.numbered_transitions();
    let surplus = changes.len().saturating_sub(TRANSITIONS_MAX);
    changes.iter().skip(surplus).filter_map(|change| decode_transition(name, change)).collect()
}

/// Converts the newest failures only, because old ones decay on restore anyway.
fn encode_streak(row: &FailureStreak) -> Vec<PersistedFailure> {
    let surplus = row.failures.len().saturating_sub(WINDOW_CALLS_MAX);
    row.failures.iter().skip(surplus).map(PersistedFailure::from).collect()
}

fn encode_window(window: &CallWindow, slice: i64) -> PersistedWindow {
    let mut successes: BTreeMap<i64, PersistedBucket> = BTreeMap::new();
    let mut failures = Vec::new();
    for (at, failed) in &window.calls {
        match failed {
            None => {
                let slice = successes.entry(at.0.div_euclid(slice.max(1))).or_default();
                *slice = PersistedBucket { at: at.0, count: slice.count + 1 };
            }
            Some(subject) => {
                failures.push(PersistedFailure::from(&RecordedFailure {
                    subject: subject.clone(),
                    at: *at,
                }));
            }
        }
    }
    PersistedWindow { successes: successes.into_values().collect(), failures }
}

fn decode_window(memory: &PersistedWindow) -> CallWindow {
    let successes = memory.successes.iter().flat_map(|slice| {
        std::iter::repeat_n((Timestamp(slice.at), None), slice.count.min(WINDOW_CALLS_MAX))
    });
    let failures = memory.failures.iter().map(RecordedFailure::from);
    let failures = failures.map(|fault| (fault.at, Some(fault.subject)));
    let mut calls: Vec<_> = successes.chain(failures).collect();
    calls.sort_by_key(|(at, _)| *at);
    let surplus = calls.len().saturating_sub(WINDOW_CALLS_MAX);
    CallWindow { calls: calls.into_iter().skip(surplus).collect() }
}

impl From<&BreakerTransition> for PersistedTransition {
    fn from(change: &BreakerTransition) -> Self {
        Self {
            generation: change.generation,
            from: change.from.name().to_owned(),
            to: change.to.name().to_owned(),
            at: change.at.0,
            reason: change.reason.clone(),
        }
    }
}

impl From<&RecordedFailure> for PersistedFailure {
    fn from(fault: &RecordedFailure) -> Self {
        let item = match &fault.subject {
            CallSubject::Service => None,
            CallSubject::Item(item) => Some(item.clone()),
        };
        Self { item, at: fault.at.0 }
    }
}

impl From<&PersistedFailure> for RecordedFailure {
    fn from(memory: &PersistedFailure) -> Self {
        let subject = memory.item.clone().map_or(CallSubject::Service, CallSubject::Item);
        Self { subject, at: Timestamp(memory.at) }
    }
}
