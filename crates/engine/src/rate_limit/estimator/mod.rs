//! Estimator of a rate that the server does not advertise.
//!
//! Slow start lasts until the first throttle. From then on the rate is the number of units accepted
//! over complete cycles, from one recovery to the next, including blocks: no limiter exceeds this
//! for long. Faster rates are probed as in CUBIC (RFC 9438): a long plateau at the last good rate,
//! a small step, and growing steps while they succeed.

mod common_windows;
mod cycle;
mod learned_limit;
mod phase;
mod probe_schedule;
mod state;

use std::time::Duration;

use crate::rate_limit::rate::Rate;
use crate::rate_limit::status::RateSource;
use crate::{ClockStep, Timestamp};

use self::cycle::{IDLE_THRESHOLD_MIN, MeasurementCycle, ThrottleEpisode};
use self::learned_limit::{LearnedLimit, PROOF_DURATION_MIN};
use self::probe_schedule::{PROBE_STEP, ProbeSchedule};

pub(super) use self::common_windows::safety_factor;
pub(super) use self::phase::EstimatorPhase;
pub use self::state::RateEstimatorState;

/// Requests are not paced above this rate: no limiter is so fast.
const UNPACED_RATE_MIN: f64 = 200_000.0;

/// Successes after which slow start doubles the rate, if pacing was the bottleneck.
const DOUBLING_SUCCESSES: u32 = 10;

/// Minimum duration of a probe: in a shorter one, the measured rate could be anything.
const PROBE_DURATION_MIN: Duration = Duration::from_millis(100);

/// Minimum share of a good rate that is kept after one throttle.
const DECREASE_FACTOR_MIN: f64 = 0.7;

/// The same for a lock-out, whose cycle shows little: uneven response times may be the only cause.
const DECREASE_FACTOR_MIN_LOCK_OUT: f64 = 0.96;

/// A rate that fails within this factor of the good one leaves no room for another between them.
const NEAR_GOOD_FACTOR: f64 = 1.06;

/// Likely rates are tried immediately while a throttle costs no more than this. Lock-outs of 15
/// minutes are accepted; one of an hour is not risked for a guess.
const SEARCH_COST_MAX: Duration = Duration::from_secs(1200);

/// The same if no common window ended with the block: a lock-out, which our attempts may prolong.
const SEARCH_COST_MAX_LOCK_OUT: Duration = Duration::from_secs(5400);

/// A throttle after fewer units than this is early.
const EARLY_THROTTLE_UNITS: f64 = 50.0;

/// Maximum cost of an early throttle for which slow start is restarted.
const EARLY_THROTTLE_COST_MAX: Duration = Duration::from_secs(120);

/// Estimated rate of one scope, and what it follows from.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct RateEstimator {
    pub(super) phase: EstimatorPhase,
    /// Highest rate that no throttle contradicts.
    pub(super) known_good: Option<Rate>,
    /// Rate known to be too fast; `None` if `known_good` is the maximum.
    pub(super) known_bad: Option<Rate>,
    pub(super) estimate: Option<Rate>,
    pub(super) cycles: u32,
    pub(super) probes: ProbeSchedule,
    /// Time from the first throttle of the last cycle to the recovery.
    pub(super) throttle_cost: Duration,
    pub(super) limit: LearnedLimit,
    cycle: MeasurementCycle,
    /// Lowest rate of slow start.
    slow_start_rate: Rate,
    /// True if pacing delayed requests since this was last cleared.
    is_pace_limited: bool,
    /// Throttles at or below the good rate since it was last proven.
    decreases: u32,
}

impl RateEstimator {
    pub(super) fn new(slow_start_rate: Rate, now: Timestamp) -> Self {
        Self {
            phase: EstimatorPhase::SlowStart { rate: slow_start_rate, successes: 0 },
            known_good: None,
            known_bad: None,
            estimate: None,
            cycles: 0,
            probes: ProbeSchedule::new(),
            throttle_cost: Duration::ZERO,
            limit: LearnedLimit::default(),
            cycle: MeasurementCycle::new(now),
            slow_start_rate,
            is_pace_limited: false,
            decreases: 0,
        }
    }

    /// Starts slow start at an advertised rate, unless a rate has been estimated.
    pub(super) fn start_at_rate(&mut self, rate: Rate) {
        if matches!(self.phase, EstimatorPhase::SlowStart { .. }) {
            self.phase = EstimatorPhase::SlowStart { rate, successes: 0 };
        }
    }

    /// Replaces the estimate by that of another process. A process that is still inactive or in
    /// slow start keeps its phase, unless the other one was throttled.
    pub(super) fn merge_from_peer(&mut self, peer: Self) {
        let is_early =
            matches!(peer.phase, EstimatorPhase::Inactive | EstimatorPhase::SlowStart { .. });
        let (phase, is_pace_limited) = (self.phase, self.is_pace_limited);
        *self = peer;
        self.is_pace_limited = is_pace_limited;
        if is_early && matches!(phase, EstimatorPhase::Inactive | EstimatorPhase::SlowStart { .. })
        {
            self.phase = phase;
        }
    }

    /// Stops estimating, because headers give the rate. Has no effect after the first throttle.
    pub(super) fn deactivate(&mut self) {
        if matches!(self.phase, EstimatorPhase::SlowStart { .. }) && self.cycle.throttle.is_none() {
            self.phase = EstimatorPhase::Inactive;
        }
    }

    /// Resumes estimating when the headers stop, starting at `rate`.
    pub(super) fn activate(&mut self, rate: Option<Rate>) {
        if self.phase == EstimatorPhase::Inactive {
            let rate = rate.unwrap_or(self.slow_start_rate);
            self.phase = EstimatorPhase::SlowStart { rate, successes: 0 };
        }
    }

    /// Returns the rate in force, or `None` if requests are not paced.
    pub(super) fn rate(&self) -> Option<Rate> {
        match self.phase {
            EstimatorPhase::Inactive => None,
            EstimatorPhase::SlowStart { rate, .. } => {
                (rate.get() < UNPACED_RATE_MIN).then_some(rate)
            }
            EstimatorPhase::Steady { .. } => self.known_good,
            EstimatorPhase::Probing { rate, .. } => Some(rate),
        }
    }

    /// Returns the window, found or being tried, in which one unit too many may lock us out.
    pub(super) fn hard_limit_window(&self) -> Option<Duration> {
        let found = self.limit.lock_out_window();
        match self.phase {
            EstimatorPhase::Inactive | EstimatorPhase::SlowStart { .. } => None,
            EstimatorPhase::Steady { .. } => found,
            EstimatorPhase::Probing { rate, .. } => self.limit.candidate_window(rate).or(found),
        }
    }

    pub(super) fn rate_source(&self) -> RateSource {
        match self.phase {
            EstimatorPhase::Inactive => RateSource::Unlimited,
            EstimatorPhase::SlowStart { .. } => RateSource::SlowStart,
            EstimatorPhase::Steady { .. } => RateSource::Estimated,
            EstimatorPhase::Probing { .. } => RateSource::Probe,
        }
    }

    pub(super) fn record_paced(&mut self) {
        self.is_pace_limited = true;
    }

    /// Returns the longest pause between two requests that is not idle time.
    pub(super) fn idle_threshold(&self) -> Duration {
        self.rate().map_or(IDLE_THRESHOLD_MIN, |rate| {
            IDLE_THRESHOLD_MIN.max(rate.interval().saturating_mul(3))
        })
    }

    /// Excludes an idle time from the cycle and from the time for which a rate succeeded.
    pub(super) fn exclude_idle(&mut self, idle: Duration) {
        self.cycle.exclude_idle(idle);
        self.phase.map_times(|at| at.after(idle));
    }

    pub(super) fn shift_by(&mut self, step: ClockStep) {
        self.cycle.shift_by(step);
        self.probes.shift_by(step);
        self.phase.map_times(|at| at.shifted_by(step));
    }

    /// Records a sent request. A pause restarts the cycle, because it is no part of a window.
    pub(super) fn record_sent(&mut self, now: Timestamp) {
        if now.since(self.cycle.last_sent_at) > self.idle_threshold()
            && self.cycle.throttle.is_none()
        {
            self.cycle = MeasurementCycle::new(now);
        }
        self.cycle.last_sent_at = now;
    }

    /// Starts another cycle, because the wait that follows says nothing about the rate.
    pub(super) fn restart_cycle(&mut self, now: Timestamp) {
        self.cycle = MeasurementCycle::new(now);
    }

    pub(super) fn record_accepted(&mut self, weight: f64, now: Timestamp) {
        self.cycle.accepted_units += weight;
        match &mut self.phase {
            EstimatorPhase::Inactive => {}
            EstimatorPhase::SlowStart { rate, successes } => {
                *successes += 1;
                if *successes >= DOUBLING_SUCCESSES && self.is_pace_limited {
                    *rate = rate.scaled(2.0);
                    *successes = 0;
                    self.is_pace_limited = false;
                }
            }
            EstimatorPhase::Steady { since, units } => {
                *units += weight;
                let proven_for = now.since(*since);
                if self.limit.is_proven_after(proven_for) && self.is_pace_limited {
                    self.decreases = 0;
                }
                if self.probes.is_due(now) && proven_for > PROOF_DURATION_MIN {
                    self.start_probe(now);
                }
            }
            EstimatorPhase::Probing { rate, since, units } => {
                *units += weight;
                let (rate, since, units) = (*rate, *since, *units);
                if now.since(since) >= self.limit.proof_duration(rate, self.estimate)
                    && units >= 20.0
                {
                    self.record_proven_rate(rate, now);
                }
            }
        }
    }

    pub(super) fn record_throttled(&mut self, now: Timestamp) {
        if let Some(throttle) = &mut self.cycle.throttle {
            throttle.last_at = now;
            return;
        }
        let rate = self.rate().unwrap_or_else(|| self.cycle.accepted_rate(now));
        self.cycle.throttle = Some(ThrottleEpisode { first_at: now, last_at: now, rate });
    }

    /// Returns the end of the current window, if all its units are used.
    pub(super) fn window_end(&self, now: Timestamp) -> Option<Timestamp> {
        let window = self.limit.window?;
        let end = self.cycle.started_at.after(window);
        let is_used = self.limit.matches_first_burst(self.cycle.accepted_units);
        (is_used && end > now && !self.limit.has_lock_out).then_some(end)
    }

    /// Records the first success after a block, which had this Retry-After, if any.
    pub(super) fn record_recovery(&mut self, retry_after: Option<Duration>, now: Timestamp) {
        let Some(throttle) = self.cycle.throttle else { return };
        let cycle = self.cycle;
        self.cycle = cycle.next_cycle(retry_after, now);
        self.throttle_cost = now.since(throttle.first_at);
        let (earliest, latest) = cycle.recovery_bounds(retry_after, now);
        let accepted = cycle.accepted_units.max(1.0);
        let matched = self.limit.matching_window(cycle.window_bounds(earliest, latest));
        let window = matched.unwrap_or(latest);
        let estimate = Rate::from_units(accepted, window);
        self.estimate = Some(estimate);
        self.cycles = self.cycles.saturating_add(1);
        let safe = estimate.scaled(matched.map_or(common_windows::SAFETY_FACTOR, safety_factor));
        let is_search = match self.phase {
            EstimatorPhase::Inactive | EstimatorPhase::SlowStart { .. } => true,
            EstimatorPhase::Steady { .. } => false,
            EstimatorPhase::Probing { rate, .. } => self.limit.candidate_window(rate).is_some(),
        };
        match (self.phase, self.known_good) {
            (EstimatorPhase::Inactive | EstimatorPhase::SlowStart { .. }, _) | (_, None) => {
                self.limit.first_burst = Some(accepted);
                self.limit.window = Some(window);
                self.known_bad = Some(throttle.rate);
                self.known_good = Some(safe);
            }
            (EstimatorPhase::Probing { rate, since, units }, Some(good)) => {
                let end = cycle.started_at.after(latest);
                let achieved =
                    Rate::from_units(units.max(1.0), end.since(since).max(PROBE_DURATION_MIN));
                self.record_failed_probe(rate, good, safe, achieved);
            }
            (EstimatorPhase::Steady { .. }, Some(good)) => {
                let is_burst = self.limit.matches_first_burst(accepted);
                if is_burst {
                    // The first block ended with a window that had begun long before it.
                    self.limit.window = Some(window);
                }
                self.decrease_known_good(good, safe, is_burst);
            }
        }
        self.is_pace_limited = false;
        if self.should_restart_slow_start(accepted) {
            let rate = safe.max(self.slow_start_rate);
            self.phase = EstimatorPhase::SlowStart { rate, successes: 0 };
            self.schedule_probe(now);
        } else if is_search {
            let was_lock_out = !common_windows::is_near_common_window(earliest, latest);
            let cost_max = if was_lock_out { SEARCH_COST_MAX_LOCK_OUT } else { SEARCH_COST_MAX };
            self.search_candidates(cost_max, now);
        } else {
            self.hold_steady(now);
        }
    }

    /// Returns true if the first throttle came too early to mean anything and another costs little.
    fn should_restart_slow_start(&self, accepted: f64) -> bool {
        self.cycles == 1
            && accepted < EARLY_THROTTLE_UNITS
            && self.throttle_cost <= EARLY_THROTTLE_COST_MAX
    }

    /// Lowers the good rate after a throttle. `is_burst`: after as many units as the first burst.
    fn decrease_known_good(&mut self, good: Rate, safe: Rate, is_burst: bool) {
        self.decreases = self.decreases.saturating_add(1);
        // A lock-out makes the estimate of one cycle too low, so it is applied in steps.
        let factor_min = if self.limit.has_lock_out {
            DECREASE_FACTOR_MIN_LOCK_OUT
        } else {
            DECREASE_FACTOR_MIN
        };
        let is_confirmed = is_burst || self.decreases > 1;
        let lowered = if is_confirmed { safe } else { safe.max(good.scaled(factor_min)) };
        self.known_good = Some(lowered.min(good));
        // A good rate may work again once other clients that share the limit are idle.
        self.known_bad = Some(good.scaled(1.0 + PROBE_STEP));
        self.probes.record_decrease();
    }

    fn record_failed_probe(&mut self, probed: Rate, good: Rate, safe: Rate, achieved: Rate) {
        self.probes.record_failure();
        // If the probe and its block together were about as fast as the good rate, that is the
        // ceiling. After a lock-out they never are, so there the last failed candidate is enough.
        let has_next = self.limit.next_candidate_rate(good, probed).is_some();
        let is_near = probed.get() < good.get() * NEAR_GOOD_FACTOR;
        let is_ceiling = (is_near && achieved.get() > good.get() * 0.9)
            || (self.limit.has_lock_out && !has_next);
        self.known_bad = if is_ceiling { None } else { Some(probed) };
        if safe > good && safe < probed {
            self.known_good = Some(safe);
        }
    }

    fn record_proven_rate(&mut self, rate: Rate, now: Timestamp) {
        if !self.is_pace_limited {
            // The work was slower than the pacing, which proves nothing.
            self.phase = EstimatorPhase::Probing { rate, since: now, units: 0.0 };
            return;
        }
        if let Some(window) = self.limit.candidate_window(rate) {
            // The block was longer than the window: a lock-out.
            self.limit.record_lock_out(window);
        }
        self.known_good = Some(rate);
        self.decreases = 0;
        self.probes.record_success();
        if self.known_bad.is_some_and(|bad| bad.get() < rate.get() * 1.02) {
            self.known_bad = None;
        }
        if self.known_bad.is_some() {
            self.search_candidates(SEARCH_COST_MAX, now);
        } else {
            self.start_probe(now);
        }
    }

    /// Tries a likely rate immediately, because the block may have been a lock-out far longer than
    /// the window. Holds steady if none is left. A success leads to a faster rate and a failure to
    /// a slower one, so that most windows cost only one more throttle.
    fn search_candidates(&mut self, cost_max: Duration, now: Timestamp) {
        self.hold_steady(now);
        let bounds = self.known_good.zip(self.known_bad);
        let candidate = bounds.and_then(|(good, bad)| self.limit.search_candidate_rate(good, bad));
        if let Some(candidate) = candidate.filter(|_| self.throttle_cost <= cost_max) {
            self.start_probe_at(candidate, now);
        }
    }

    fn hold_steady(&mut self, now: Timestamp) {
        self.phase = EstimatorPhase::Steady { since: now, units: 0.0 };
        self.schedule_probe(now);
    }

    fn start_probe(&mut self, now: Timestamp) {
        if let Some(target) = self.next_target() {
            self.start_probe_at(target, now);
        }
    }

    fn start_probe_at(&mut self, rate: Rate, now: Timestamp) {
        self.phase = EstimatorPhase::Probing { rate, since: now, units: 0.0 };
        self.is_pace_limited = false;
    }

    /// Schedules the next probe, unless there is no good rate to start from.
    fn schedule_probe(&mut self, now: Timestamp) {
        let (Some(good), Some(target)) = (self.known_good, self.next_target()) else { return };
        let gain = (target.get() / good.get() - 1.0).max(0.001);
        let cost_share_max = self.limit.probe_cost_share_max();
        self.probes.schedule(gain, self.throttle_cost, cost_share_max, now);
    }

    fn next_target(&self) -> Option<Rate> {
        let good = self.known_good?;
        let small = self.probes.next_step(good);
        let Some(bad) = self.known_bad else { return Some(small) };
        if let Some(candidate) = self.limit.next_candidate_rate(good, bad) {
            return Some(candidate);
        }
        let middle = Rate::per_second((good.get() * bad.get()).sqrt());
        Some(if middle.get() > good.get() * 1.05 { middle } else { small })
    }
}
