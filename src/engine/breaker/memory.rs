//! What a breaker remembers over a restart of the process.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::opening::CHANGES_KEPT;
use super::record::{CALLS_MAX, Fault, Row, Subject, Window};
use super::{Breaker, BreakerPolicy, Change, LastFailure, Phase, State, Statistics};
use crate::engine::{Cause, Timestamp};

/// Into how many slices of time the successes of the window are put together.
const SLICES: i64 = 10;

/// The persisted form of a breaker. Every field has a default: an older or newer file still reads.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct Memory {
    /// `closed`, `open` or `half_open`; a word that is not known is taken for `closed`.
    pub state: String,
    /// How often the state has changed: whoever finds another number was not the last to change it.
    pub generation: u64,
    /// In milliseconds since the Unix epoch, like every time here.
    pub since: i64,
    /// When an open one lets a call try; null until a person closes it.
    pub until: Option<i64>,
    /// Openings since it was last closed.
    pub openings: u32,
    /// Successes in a row of a half-open one.
    pub successes: u32,
    /// The items that failed before it opened or while it was tried.
    pub ill: Vec<FaultMemory>,
    /// The failures in a row of a closed one.
    pub row: Vec<FaultMemory>,
    /// The newest calls of a closed one.
    pub window: WindowMemory,
    pub statistics: Statistics,
    pub counted_since: i64,
    pub last_failure: Option<FailureMemory>,
    pub last_change: Option<ChangeMemory>,
    /// The newest ones with their numbers, the newest last, for whoever looks only now and then.
    pub changes: Vec<ChangeMemory>,
}

#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct FaultMemory {
    /// The item, or null for the service as a whole.
    pub item: Option<String>,
    pub at: i64,
}

#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct WindowMemory {
    pub successes: Vec<SliceMemory>,
    pub failures: Vec<FaultMemory>,
}

/// So many successes at about the same time.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct SliceMemory {
    pub at: i64,
    pub count: usize,
}

#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct FailureMemory {
    pub cause: String,
    pub message: String,
    pub at: i64,
}

#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct ChangeMemory {
    /// The generation that it led to.
    pub no: u64,
    pub from: String,
    pub to: String,
    pub at: i64,
    pub why: String,
}

/// Writes a breaker down.
pub(super) fn write(breaker: &Breaker) -> Memory {
    let (state, until, successes, row, window) = match &breaker.state {
        State::Closed { row, window } => {
            let slice = i64::try_from(breaker.policy.window.as_millis()).unwrap_or(i64::MAX);
            (Phase::Closed, None, 0, write_row(row), write_window(window, slice / SLICES))
        }
        State::Open { until } => (Phase::Open, *until, 0, Vec::new(), WindowMemory::default()),
        State::HalfOpen { successes, .. } => {
            (Phase::HalfOpen, None, *successes, Vec::new(), WindowMemory::default())
        }
    };
    Memory {
        state: state.name().to_owned(),
        generation: breaker.generation,
        since: breaker.since.0,
        until: until.map(|until| until.0),
        openings: breaker.openings,
        successes,
        ill: write_row(&breaker.ill),
        row,
        window,
        statistics: breaker.statistics,
        counted_since: breaker.counted_since.0,
        last_failure: breaker.last_failure.as_ref().map(|failure| FailureMemory {
            cause: failure.cause.name().to_owned(),
            message: failure.message.clone(),
            at: failure.at.0,
        }),
        last_change: breaker.last_change.as_ref().map(ChangeMemory::from),
        changes: breaker.changes.iter().map(ChangeMemory::from).collect(),
    }
}

/// Reads a breaker back. What is old counts for less, and what the window forgets not at all; an
/// open one stays open until its own time.
pub(super) fn read(name: &str, policy: BreakerPolicy, memory: &Memory, now: Timestamp) -> Breaker {
    let state = match Phase::from_name(&memory.state) {
        Some(Phase::Open) => State::Open { until: memory.until.map(Timestamp) },
        Some(Phase::HalfOpen) => {
            let row = Row::default();
            State::HalfOpen { successes: memory.successes, row, is_out: false }
        }
        Some(Phase::Closed) | None => {
            let mut row = Row { faults: memory.row.iter().map(Fault::from).collect() };
            row.fade(policy.window, now);
            let mut window = read_window(&memory.window);
            window.forget(policy.window, now);
            State::Closed { row, window }
        }
    };
    Breaker {
        state,
        since: Timestamp(memory.since),
        generation: memory.generation,
        openings: memory.openings,
        ill: Row { faults: memory.ill.iter().map(Fault::from).collect() },
        statistics: memory.statistics,
        counted_since: Timestamp(memory.counted_since),
        last_failure: memory.last_failure.as_ref().map(|failure| LastFailure {
            cause: Cause::from_name(&failure.cause).unwrap_or(Cause::Unknown),
            message: failure.message.clone(),
            at: Timestamp(failure.at),
        }),
        last_change: memory.last_change.as_ref().and_then(|change| read_change(name, change)),
        changes: read_changes(name, memory),
        ..Breaker::new(name, policy, now)
    }
}

fn read_change(name: &str, memory: &ChangeMemory) -> Option<Change> {
    let to = Phase::from_name(&memory.to)?;
    Some(Change {
        name: name.to_owned(),
        no: memory.no,
        from: Phase::from_name(&memory.from)?,
        to,
        severity: to.severity(),
        at: Timestamp(memory.at),
        why: memory.why.clone(),
    })
}

fn read_changes(name: &str, memory: &Memory) -> Vec<Change> {
    let changes = memory.numbered();
    let surplus = changes.len().saturating_sub(CHANGES_KEPT);
    changes.iter().skip(surplus).filter_map(|change| read_change(name, change)).collect()
}

/// The newest are enough: an old count counts for less anyhow.
fn write_row(row: &Row) -> Vec<FaultMemory> {
    let surplus = row.faults.len().saturating_sub(CALLS_MAX);
    row.faults.iter().skip(surplus).map(FaultMemory::from).collect()
}

fn write_window(window: &Window, slice: i64) -> WindowMemory {
    let mut successes: BTreeMap<i64, SliceMemory> = BTreeMap::new();
    let mut failures = Vec::new();
    for (at, failed) in &window.calls {
        match failed {
            None => {
                let slice = successes.entry(at.0.div_euclid(slice.max(1))).or_default();
                *slice = SliceMemory { at: at.0, count: slice.count + 1 };
            }
            Some(subject) => {
                failures.push(FaultMemory::from(&Fault { subject: subject.clone(), at: *at }));
            }
        }
    }
    WindowMemory { successes: successes.into_values().collect(), failures }
}

fn read_window(memory: &WindowMemory) -> Window {
    let successes = memory.successes.iter().flat_map(|slice| {
        std::iter::repeat_n((Timestamp(slice.at), None), slice.count.min(CALLS_MAX))
    });
    let failures = memory.failures.iter().map(Fault::from);
    let failures = failures.map(|fault| (fault.at, Some(fault.subject)));
    let mut calls: Vec<_> = successes.chain(failures).collect();
    calls.sort_by_key(|(at, _)| *at);
    let surplus = calls.len().saturating_sub(CALLS_MAX);
    Window { calls: calls.into_iter().skip(surplus).collect() }
}

impl From<&Change> for ChangeMemory {
    fn from(change: &Change) -> Self {
        Self {
            no: change.no,
            from: change.from.name().to_owned(),
            to: change.to.name().to_owned(),
            at: change.at.0,
            why: change.why.clone(),
        }
    }
}

impl From<&Fault> for FaultMemory {
    fn from(fault: &Fault) -> Self {
        let item = match &fault.subject {
            Subject::Service => None,
            Subject::Item(item) => Some(item.clone()),
        };
        Self { item, at: fault.at.0 }
    }
}

impl From<&FaultMemory> for Fault {
    fn from(memory: &FaultMemory) -> Self {
        let subject = memory.item.clone().map_or(Subject::Service, Subject::Item);
        Self { subject, at: Timestamp(memory.at) }
    }
}
