//! What was learned, over a restart of the process.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::engine::quota::Rate;
use crate::engine::quota::learn::cycle::{Cycle, CycleMemory};
use crate::engine::quota::learn::{FIRST, Learner, Stage};
use crate::engine::{ClockStep, Timestamp};

/// After so long, a rate is still the best guess, but what failed then may succeed now.
const STALE: Duration = Duration::from_secs(24 * 3600);

/// After so long, nothing counts.
const FORGOTTEN: Duration = Duration::from_secs(30 * 24 * 3600);

/// The persisted form. Times are in milliseconds since the Unix epoch, rates in units per second.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct LearnerMemory {
    good: Option<f64>,
    bad: Option<f64>,
    estimate: Option<f64>,
    cycles: u32,
    next_probe: Option<i64>,
    failures: i32,
    cost_millis: u64,
    burst: Option<f64>,
    window_millis: Option<u64>,
    is_lock_out: bool,
    /// The rate that slow start has come to.
    reached: Option<f64>,
    /// The rate that is being tried.
    tried: Option<f64>,
    /// Since when the rate in force is, and how many units were accepted at it.
    since: i64,
    units: f64,
    cycle: CycleMemory,
}

impl LearnerMemory {
    /// The same by a clock that was set by so much.
    pub(in crate::engine::quota) fn moved(&self, step: ClockStep) -> Self {
        let moved = |at: i64| Timestamp(at).shifted_by(step).0;
        Self {
            next_probe: self.next_probe.map(moved),
            since: moved(self.since),
            cycle: self.cycle.moved(step),
            ..self.clone()
        }
    }
}

impl Learner {
    pub(in crate::engine::quota) fn memory(&self) -> LearnerMemory {
        let (tried, since, units) = match self.stage {
            Stage::Asleep | Stage::Slow { .. } => (None, Timestamp(0), 0.0),
            Stage::Settled { since, units } => (None, since, units),
            Stage::Probe { rate, since, units } => (Some(rate.get()), since, units),
        };
        let reached = match self.stage {
            Stage::Slow { rate, .. } => Some(rate.get()),
            Stage::Asleep | Stage::Settled { .. } | Stage::Probe { .. } => None,
        };
        LearnerMemory {
            reached,
            tried,
            since: since.0,
            units,
            good: self.good.map(Rate::get),
            bad: self.bad.map(Rate::get),
            estimate: self.estimate.map(Rate::get),
            cycles: self.cycles,
            next_probe: self.next_probe.map(|at| at.0),
            failures: self.failures,
            cost_millis: millis(self.cost),
            burst: self.burst,
            window_millis: self.window.map(millis),
            is_lock_out: self.is_lock_out,
            cycle: self.cycle.memory(),
        }
    }

    /// Takes up what was learned `age` ago.
    pub(in crate::engine::quota) fn recall(
        memory: &LearnerMemory,
        age: Duration,
        now: Timestamp,
    ) -> Self {
        let new = Self::new(now);
        if age > FORGOTTEN {
            return new;
        }
        let cycle = Cycle::recall(&memory.cycle, now);
        let rate = |figure: Option<f64>| figure.map(Rate::per_second);
        let is_fresh = age <= STALE;
        let Some(good) = rate(memory.good) else {
            let mut fresh = Self { cycle, ..new };
            if let Some(reached) = rate(memory.reached).filter(|_| is_fresh) {
                fresh.begin_at(reached.max(Rate::per_second(FIRST)));
            }
            return fresh;
        };
        let since = Timestamp(memory.since).min(now);
        let units = memory.units.max(0.0);
        let settled = Stage::Settled { since, units };
        let tried = rate(memory.tried).filter(|tried| is_fresh && *tried > good);
        let reached = rate(memory.reached).filter(|_| is_fresh);
        let slow = reached.map(|rate| Stage::Slow { rate, successes: 0 });
        let probe = tried.map(|rate| Stage::Probe { rate, since, units });
        Self {
            stage: slow.or(probe).unwrap_or(settled),
            good: Some(good),
            bad: rate(memory.bad).filter(|_| is_fresh),
            estimate: rate(memory.estimate),
            cycles: if is_fresh { memory.cycles } else { 0 },
            next_probe: memory.next_probe.map(|at| if is_fresh { Timestamp(at) } else { now }),
            failures: if is_fresh { memory.failures.clamp(0, 16) } else { 0 },
            cost: Duration::from_millis(memory.cost_millis),
            burst: memory.burst.filter(|burst| *burst >= 1.0),
            window: memory.window_millis.filter(|window| *window > 0).map(Duration::from_millis),
            is_lock_out: memory.is_lock_out,
            cycle,
            ..new
        }
    }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}
