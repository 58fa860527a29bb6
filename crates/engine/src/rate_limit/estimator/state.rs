//! Persisted form of the rate estimator, kept across a restart of the process.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::rate_limit::estimator::RateEstimator;
use crate::rate_limit::estimator::cycle::{MeasurementCycle, MeasurementCycleState};
use crate::rate_limit::estimator::learned_limit::LearnedLimit;
use crate::rate_limit::estimator::phase::EstimatorPhase;
use crate::rate_limit::estimator::probe_schedule::ProbeSchedule;
use crate::rate_limit::rate::Rate;
use crate::{ClockStep, Timestamp};

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
    /// Time since which the rate has been in force.
    #[serde(rename = "since")]
    rate_since: i64,
    /// Units accepted at that rate.
    #[serde(rename = "units")]
    rate_units: f64,
    cycle: MeasurementCycleState,
}

impl RateEstimatorState {
    /// Returns the state with all times shifted by a clock step.
    pub(crate) fn shifted_by(&self, step: ClockStep) -> Self {
        let shift = |at: i64| Timestamp(at).shifted_by(step).0;
        Self {
            next_probe_at: self.next_probe_at.map(shift),
            rate_since: shift(self.rate_since),
            cycle: self.cycle.shifted_by(step),
            ..self.clone()
        }
    }
}

impl RateEstimator {
    pub(crate) fn to_state(&self) -> RateEstimatorState {
        let (probe_rate, since, units) = match self.phase {
            EstimatorPhase::Inactive | EstimatorPhase::SlowStart { .. } => {
                (None, Timestamp(0), 0.0)
            }
            EstimatorPhase::Steady { since, units } => (None, since, units),
            EstimatorPhase::Probing { rate, since, units } => (Some(rate.get()), since, units),
        };
        let slow_start_rate = match self.phase {
            EstimatorPhase::SlowStart { rate, .. } => Some(rate.get()),
            EstimatorPhase::Inactive
            | EstimatorPhase::Steady { .. }
            | EstimatorPhase::Probing { .. } => None,
        };
        RateEstimatorState {
            slow_start_rate,
            probe_rate,
            rate_since: since.0,
            rate_units: units,
            known_good: self.known_good.map(Rate::get),
            known_bad: self.known_bad.map(Rate::get),
            estimate: self.estimate.map(Rate::get),
            cycles: self.cycles,
            next_probe_at: self.probes.next_at.map(|at| at.0),
            failed_probes: self.probes.failed(),
            throttle_cost_millis: millis(self.throttle_cost),
            first_burst: self.limit.first_burst,
            window_millis: self.limit.window.map(millis),
            has_lock_out: self.limit.has_lock_out,
            cycle: self.cycle.to_state(),
        }
    }

    /// Restores the state as it was written `age` ago.
    pub(crate) fn restore(
        state: &RateEstimatorState,
        lowest_slow_start: Rate,
        age: Duration,
        now: Timestamp,
    ) -> Self {
        let new = Self::new(lowest_slow_start, now);
        if age > FORGET_AFTER {
            return new;
        }
        let cycle = MeasurementCycle::restore(&state.cycle, now);
        let rate = |value: Option<f64>| value.map(Rate::per_second);
        let is_fresh = age <= STALE_AFTER;
        let Some(good) = rate(state.known_good) else {
            let mut estimator = Self { cycle, ..new };
            if let Some(slow_start_rate) = rate(state.slow_start_rate).filter(|_| is_fresh) {
                estimator.start_at_rate(slow_start_rate.max(lowest_slow_start));
            }
            return estimator;
        };
        let since = Timestamp(state.rate_since).min(now);
        let units = state.rate_units.max(0.0);
        let steady = EstimatorPhase::Steady { since, units };
        let probe_rate = rate(state.probe_rate).filter(|rate| is_fresh && *rate > good);
        let slow_start_rate = rate(state.slow_start_rate).filter(|_| is_fresh);
        let slow_start =
            slow_start_rate.map(|rate| EstimatorPhase::SlowStart { rate, successes: 0 });
        let probing = probe_rate.map(|rate| EstimatorPhase::Probing { rate, since, units });
        Self {
            phase: slow_start.or(probing).unwrap_or(steady),
            known_good: Some(good),
            known_bad: rate(state.known_bad).filter(|_| is_fresh),
            estimate: rate(state.estimate),
            cycles: if is_fresh { state.cycles } else { 0 },
            probes: ProbeSchedule::restore(
                state.next_probe_at.map(|at| if is_fresh { Timestamp(at) } else { now }),
                if is_fresh { state.failed_probes } else { 0 },
            ),
            throttle_cost: Duration::from_millis(state.throttle_cost_millis),
            limit: LearnedLimit {
                first_burst: state.first_burst.filter(|burst| *burst >= 1.0),
                window: state.window_millis.filter(|window| *window > 0).map(Duration::from_millis),
                has_lock_out: state.has_lock_out,
            },
            cycle,
            ..new
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
