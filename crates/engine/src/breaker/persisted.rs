//! Persisted form of a breaker.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::transition::TRANSITIONS_MAX;
use super::window::{CallSubject, CallWindow, FailureStreak, RecordedFailure, WINDOW_CALLS_MAX};
use super::{
    Breaker, BreakerPolicy, BreakerState, BreakerStatistics, BreakerTransition, LastFailure,
    StateData,
};
use crate::{Cause, Timestamp};

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
    /// Time from which an open breaker admits a probe; null: it is open until a manual close.
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
    /// Consecutive failures of a breaker that is not open.
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
    let (state, until, successes, failure_streak, window) = match &breaker.state {
        StateData::Closed { failure_streak, window } => {
            let window_millis =
                i64::try_from(breaker.policy.window.as_millis()).unwrap_or(i64::MAX);
            (
                BreakerState::Closed,
                None,
                0,
                encode_streak(failure_streak),
                encode_window(window, window_millis / WINDOW_BUCKETS),
            )
        }
        StateData::Open { until } => {
            (BreakerState::Open, *until, 0, Vec::new(), PersistedWindow::default())
        }
        StateData::HalfOpen { successes, failure_streak, .. } => (
            BreakerState::HalfOpen,
            None,
            *successes,
            encode_streak(failure_streak),
            PersistedWindow::default(),
        ),
    };
    PersistedBreaker {
        state: state.name().to_owned(),
        generation: breaker.generation,
        state_since: breaker.state_since.0,
        open_until: until.map(|until| until.0),
        consecutive_opens: breaker.consecutive_opens,
        successes,
        failed_items: encode_streak(&breaker.failed_items),
        failure_streak,
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
    persisted: &PersistedBreaker,
    now: Timestamp,
) -> Breaker {
    let mut failure_streak = FailureStreak {
        failures: persisted.failure_streak.iter().map(RecordedFailure::from).collect(),
    };
    failure_streak.decay(policy.window, now);
    let state = match BreakerState::from_name(&persisted.state) {
        Some(BreakerState::Open) => StateData::Open { until: persisted.open_until.map(Timestamp) },
        Some(BreakerState::HalfOpen) => StateData::HalfOpen {
            successes: persisted.successes,
            failure_streak,
            is_probe_in_flight: false,
        },
        Some(BreakerState::Closed) | None => {
            let mut window = decode_window(&persisted.window);
            window.evict_stale(policy.window, now);
            StateData::Closed { failure_streak, window }
        }
    };
    Breaker {
        state,
        state_since: Timestamp(persisted.state_since),
        generation: persisted.generation,
        consecutive_opens: persisted.consecutive_opens,
        failed_items: FailureStreak {
            failures: persisted.failed_items.iter().map(RecordedFailure::from).collect(),
        },
        statistics: persisted.statistics,
        statistics_since: Timestamp(persisted.statistics_since),
        last_failure: persisted.last_failure.as_ref().map(|failure| LastFailure {
            cause: Cause::from_name(&failure.cause).unwrap_or(Cause::Unknown),
            message: failure.message.clone(),
            at: Timestamp(failure.at),
        }),
        last_transition: persisted
            .last_transition
            .as_ref()
            .and_then(|transition| decode_transition(name, transition)),
        transitions: decode_transitions(name, persisted),
        ..Breaker::new(name, policy, now)
    }
}

fn decode_transition(name: &str, persisted: &PersistedTransition) -> Option<BreakerTransition> {
    let to = BreakerState::from_name(&persisted.to)?;
    Some(BreakerTransition {
        breaker: name.to_owned(),
        generation: persisted.generation,
        from: BreakerState::from_name(&persisted.from)?,
        to,
        severity: to.severity(),
        at: Timestamp(persisted.at),
        reason: persisted.reason.clone(),
    })
}

fn decode_transitions(name: &str, persisted: &PersistedBreaker) -> Vec<BreakerTransition> {
    let transitions = persisted.numbered_transitions();
    let surplus = transitions.len().saturating_sub(TRANSITIONS_MAX);
    transitions
        .iter()
        .skip(surplus)
        .filter_map(|transition| decode_transition(name, transition))
        .collect()
}

/// Converts the newest failures only, because old ones decay on restore anyway.
fn encode_streak(failure_streak: &FailureStreak) -> Vec<PersistedFailure> {
    let surplus = failure_streak.failures.len().saturating_sub(WINDOW_CALLS_MAX);
    failure_streak.failures.iter().skip(surplus).map(PersistedFailure::from).collect()
}

fn encode_window(window: &CallWindow, bucket_millis: i64) -> PersistedWindow {
    let mut successes: BTreeMap<i64, PersistedBucket> = BTreeMap::new();
    let mut failures = Vec::new();
    for (at, failed) in &window.calls {
        match failed {
            None => {
                let bucket = successes.entry(at.0.div_euclid(bucket_millis.max(1))).or_default();
                *bucket = PersistedBucket { at: at.0, count: bucket.count + 1 };
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

fn decode_window(persisted: &PersistedWindow) -> CallWindow {
    let successes = persisted.successes.iter().flat_map(|bucket| {
        std::iter::repeat_n((Timestamp(bucket.at), None), bucket.count.min(WINDOW_CALLS_MAX))
    });
    let failures = persisted.failures.iter().map(RecordedFailure::from);
    let failures = failures.map(|failure| (failure.at, Some(failure.subject)));
    let mut calls: Vec<_> = successes.chain(failures).collect();
    calls.sort_by_key(|(at, _)| *at);
    let surplus = calls.len().saturating_sub(WINDOW_CALLS_MAX);
    CallWindow { calls: calls.into_iter().skip(surplus).collect() }
}

impl From<&BreakerTransition> for PersistedTransition {
    fn from(transition: &BreakerTransition) -> Self {
        Self {
            generation: transition.generation,
            from: transition.from.name().to_owned(),
            to: transition.to.name().to_owned(),
            at: transition.at.0,
            reason: transition.reason.clone(),
        }
    }
}

impl From<&RecordedFailure> for PersistedFailure {
    fn from(failure: &RecordedFailure) -> Self {
        let item = match &failure.subject {
            CallSubject::Service => None,
            CallSubject::Item(item) => Some(item.clone()),
        };
        Self { item, at: failure.at.0 }
    }
}

impl From<&PersistedFailure> for RecordedFailure {
    fn from(persisted: &PersistedFailure) -> Self {
        let subject = persisted.item.clone().map_or(CallSubject::Service, CallSubject::Item);
        Self { subject, at: Timestamp(persisted.at) }
    }
}
