//! Persisted form of the rate estimator, kept over a restart of the process.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::engine::rate_limit::Rate;
use crate::engine::rate_limit::estimator::cycle::{MeasurementCycle, MeasurementCycleState};
use crate::engine::rate_limit::estimator::{EstimatorPhase, RateEstimator, SLOW_START_RATE};
use crate::engine::{ClockStep, Timestamp};

/// Age after which a rate is still the best guess, but a rate that failed may succeed now.
const STALE_AFTER: Duration = Duration::from_secs(24 * 3600);

/// Age after which the state is ignored.
const FORGET_AFTER: Duration = Duration::from_secs(30 * 24 * 3600);

/// Persisted state of the rate estimator. Times are in milliseconds since the Unix epoch, rates in
/// units per second.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct RateEstimatorState {
    #[serde(rename = "good")]
    known_good: Option<f64>,
    #[serde(rename = "bad")]
    known_bad: Option<f64>,
    estimate: Option<f64>,
    cycles: u32,
    #[serde(rename = "next_probe")]
    next_probe_at: Option<i64>,
    #[serde(rename = "failures")]
    failed_probes: i32,
    #[serde(rename = "cost_millis")]
    throttle_cost_millis: u64,
    #[serde(rename = "burst")]
    first_burst: Option<f64>,
    window_millis: Option<u64>,
    #[serde(rename = "is_lock_out")]
    has_lock_out: bool,
    /// Rate that slow start has reached.
    #[serde(rename = "reached")]
    slow_start_rate: Option<f64>,
    /// Rate that is being probed.
    #[serde(rename = "tried")]
    probe_rate: Option<f64>,
    /// Time since which the rate has been in force, and the units accepted at it.
    #[serde(rename = "since")]
    rate_since: i64,
    #[serde(rename = "units")]
    rate_units: f64,
    cycle: MeasurementCycleState,
}

impl RateEstimatorState {
    /// Returns the state with all times shifted by a clock step.
    pub(in crate::engine::rate_limit) fn shifted_by(&self, step: ClockStep) -> Self {
        let moved = |at: i64| Timestamp(at).shifted_by(step).0;
        Self {
            next_probe_at: self.next_probe_at.map(moved),
            rate_since: moved(self.rate_since),
            cycle: self.cycle.shifted_by(step),
            ..self.clone()
        }
    }
}

impl RateEstimator {
    pub(in crate::engine::rate_limit) fn to_state(&self) -> RateEstimatorState {
        let (tried, since, units) = match self.phase {
            EstimatorPhase::Inactive | EstimatorPhase::SlowStart { .. } => {
                (None, Timestamp(0), 0.0)
            }
            EstimatorPhase::Steady { since, units } => (None, since, units),
            EstimatorPhase::Probing { rate, since, units } => (Some(rate.get()), since, units),
        };
        let reached = match self.phase {
            EstimatorPhase::SlowStart { rate, .. } => Some(rate.get()),
            EstimatorPhase::Inactive
            | EstimatorPhase::Steady { .. }
            | EstimatorPhase::Probing { .. } => None,
        };
        RateEstimatorState {
            slow_start_rate: reached,
            probe_rate: tried,
            rate_since: since.0,
            rate_units: units,
            known_good: self.known_good.map(Rate::get),
            known_bad: self.known_bad.map(Rate::get),
            estimate: self.estimate.map(Rate::get),
            cycles: self.cycles,
            next_probe_at: self.next_probe_at.map(|at| at.0),
            failed_probes: self.failed_probes,
            throttle_cost_millis: millis(self.throttle_cost),
            first_burst: self.first_burst,
            window_millis: self.window.map(millis),
            has_lock_out: self.has_lock_out,
            cycle: self.cycle.to_state(),
        }
    }

    /// Restores the state as it was written `age` ago.
    pub(in crate::engine::rate_limit) fn restore(
        memory: &RateEstimatorState,
        age: Duration,
        now: Timestamp,
    ) -> Self {
        let new = Self::new(now);
        if age > FORGET_AFTER {
            return new;
        }
        let cycle = MeasurementCycle::restore(&memory.cycle, now);
        let rate = |figure: Option<f64>| figure.map(Rate::per_second);
        let is_fresh = age <= STALE_AFTER;
        let Some(good) = rate(memory.known_good) else {
            let mut fresh = Self { cycle, ..new };
            if let Some(reached) = rate(memory.slow_start_rate).filter(|_| is_fresh) {
                fresh.start_at_rate(reached.max(Rate::per_second(SLOW_START_RATE)));
            }
            return fresh;
        };
        let since = Timestamp(memory.rate_since).min(now);
        let units = memory.rate_units.max(0.0);
        let settled = EstimatorPhase::Steady { since, units };
        let tried = rate(memory.probe_rate).filter(|tried| is_fresh && *tried > good);
        let reached = rate(memory.slow_start_rate).filter(|_| is_fresh);
        let slow = reached.map(|rate| EstimatorPhase::SlowStart { rate, successes: 0 });
        let probe = tried.map(|rate| EstimatorPhase::Probing { rate, since, units });
        Self {
            phase: slow.or(probe).unwrap_or(settled),
            known_good: Some(good),
            known_bad: rate(memory.known_bad).filter(|_| is_fresh),
            estimate: rate(memory.estimate),
            cycles: if is_fresh { memory.cycles } else { 0 },
            next_probe_at: memory
                .next_probe_at
                .map(|at| if is_fresh { Timestamp(at) } else { now }),
            failed_probes: if is_fresh { memory.failed_probes.clamp(0, 16) } else { 0 },
            throttle_cost: Duration::from_millis(memory.throttle_cost_millis),
            first_burst: memory.first_burst.filter(|burst| *burst >= 1.0),
            window: memory.window_millis.filter(|window| *window > 0).map(Duration::from_millis),
            has_lock_out: memory.has_lock_out,
            cycle,
            ..new
        }
    }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}
