//! Learns the rate of a server that does not tell it.
//!
//! Slow start up to the first throttle. Then the rate is what was accepted over whole cycles, from
//! one recovery to the next, holds included, which no limiter exceeds for long; and faster rates are
//! tried as CUBIC does (RFC 9438): a long plateau at the last good rate, a small step, and growing
//! steps while they hold.

mod common_windows;
mod cycle;
mod phase;
mod state;

use std::time::Duration;

use crate::engine::rate_limit::{Rate, RateSource};
use crate::engine::{ClockStep, Timestamp};

use self::cycle::{IDLE_THRESHOLD_MIN, MeasurementCycle, ThrottleEpisode};

pub(super) use self::common_windows::safety_factor;
pub(super) use self::phase::EstimatorPhase;

pub use self::state::RateEstimatorState;

/// Slow start begins here: a fast server is reached in half a second, and a slow one loses little.
const SLOW_START_RATE: f64 = 50.0;

/// Beyond this nothing is paced: no limiter is as fast.
const UNPACED_RATE_MIN: f64 = 200_000.0;

/// Successes after which slow start doubles, if the pace was what held it back.
const DOUBLING_SUCCESSES: u32 = 10;

/// The first step of a probe.
const PROBE_STEP: f64 = 0.02;

/// The first step after a rate that had been good was refused.
const PROBE_STEP_AFTER_DECREASE: f64 = 0.1;

/// A try is at least this long, or its rate could be anything.
const PROBE_DURATION_MIN: Duration = Duration::from_millis(100);

/// Steps double up to this.
const PROBE_STEP_MAX: f64 = 1.0;

/// A step is believed after so many of the windows that are seen.
const PROOF_WINDOWS: f64 = 1.2;

/// A step is believed after at least this.
const PROOF_DURATION_MIN: Duration = Duration::from_secs(30);

/// A bucket takes the next request sooner than this.
const BUCKET_WINDOW_MAX: Duration = Duration::from_secs(3);

/// A bucket larger than what this takes to empty is not worth the wait, in seconds.
const BUCKET_PROOF_SECS_MAX: f64 = 240.0;

/// What is kept at least of a good rate that was refused once.
const DECREASE_FACTOR_MIN: f64 = 0.7;

/// The same for a lock-out, whose cycle says little: replies that came unsteadily may be all it was.
const DECREASE_FACTOR_MIN_LOCK_OUT: f64 = 0.96;

/// A rate that fails within this of the good one leaves no room for another between them.
const NEAR_GOOD_FACTOR: f64 = 1.06;

/// The share of the time that tries may cost which lock us out.
const LOCK_OUT_COST_SHARE_MAX: f64 = 0.05;

/// Likely rates are tried at once while a refusal costs no more than this: lock-outs of a quarter of an hour
/// are met, and one of an hour is not met for a guess.
const SEARCH_COST_MAX: Duration = Duration::from_secs(1200);

/// The same where no usual window ended with the hold, and so a lock-out did, which our own tries may have drawn out
/// as they will not the next one.
const SEARCH_COST_MAX_LOCK_OUT: Duration = Duration::from_secs(5400);

/// Nor is the first one further away than this, if it is for much.
const BOLD_PROBE_INTERVAL_MAX: Duration = Duration::from_secs(600);

/// A throttle after fewer units than this is early.
const EARLY_THROTTLE_UNITS: f64 = 50.0;

/// What an early throttle may cost to be worth another.
const EARLY_THROTTLE_COST_MAX: Duration = Duration::from_secs(120);

/// No probe is further away than this.
const PROBE_INTERVAL_MAX: Duration = Duration::from_secs(24 * 3600);

#[derive(Clone, Debug, PartialEq)]
pub(super) struct RateEstimator {
    pub(super) phase: EstimatorPhase,
    /// The rate that no throttle contradicts.
    pub(super) known_good: Option<Rate>,
    /// A rate known to be too fast; none when the ceiling is where `good` is.
    pub(super) known_bad: Option<Rate>,
    pub(super) estimate: Option<Rate>,
    pub(super) cycles: u32,
    pub(super) next_probe_at: Option<Timestamp>,
    /// Probes that failed in a row, less those that held.
    pub(super) failed_probes: i32,
    /// What one throttle cost.
    pub(super) throttle_cost: Duration,
    /// The units of a burst up to the first throttle, and the window they seem to belong to.
    pub(super) first_burst: Option<f64>,
    pub(super) window: Option<Duration>,
    /// A throttle costs more than the window: when it ends cannot be told from the window.
    pub(super) has_lock_out: bool,
    probe_step: f64,
    cycle: MeasurementCycle,
    /// The pace, not the work, held requests back since this was last cleared.
    is_pace_limited: bool,
    /// Throttles at or below the good rate, with no proof of it between.
    decreases: u32,
}

impl RateEstimator {
    pub(super) fn new(now: Timestamp) -> Self {
        Self {
            phase: EstimatorPhase::SlowStart {
                rate: Rate::per_second(SLOW_START_RATE),
                successes: 0,
            },
            known_good: None,
            known_bad: None,
            estimate: None,
            cycles: 0,
            next_probe_at: None,
            failed_probes: 0,
            throttle_cost: Duration::ZERO,
            first_burst: None,
            window: None,
            has_lock_out: false,
            probe_step: PROBE_STEP,
            cycle: MeasurementCycle::new(now),
            is_pace_limited: false,
            decreases: 0,
        }
    }

    /// Lets slow start begin at a rate that was told before, unless something was learned.
    pub(super) fn start_at_rate(&mut self, rate: Rate) {
        if matches!(self.phase, EstimatorPhase::SlowStart { .. }) {
            self.phase = EstimatorPhase::SlowStart { rate, successes: 0 };
        }
    }

    /// Goes on from what another process learned. Slow start and sleep are each one's own, unless it was throttled.
    pub(super) fn merge_from_peer(&mut self, theirs: Self) {
        let is_early =
            matches!(theirs.phase, EstimatorPhase::Inactive | EstimatorPhase::SlowStart { .. });
        let (stage, is_binding) = (self.phase, self.is_pace_limited);
        *self = theirs;
        self.is_pace_limited = is_binding;
        if is_early && matches!(stage, EstimatorPhase::Inactive | EstimatorPhase::SlowStart { .. })
        {
            self.phase = stage;
        }
    }

    /// The server tells its rate, so there is nothing to learn until it turns out to hide something.
    pub(super) fn deactivate(&mut self) {
        if matches!(self.phase, EstimatorPhase::SlowStart { .. }) && self.cycle.throttle.is_none() {
            self.phase = EstimatorPhase::Inactive;
        }
    }

    /// The server stopped telling its rate.
    pub(super) fn activate(&mut self, rate: Option<Rate>) {
        if self.phase == EstimatorPhase::Inactive {
            let rate = rate.unwrap_or_else(|| Rate::per_second(SLOW_START_RATE));
            self.phase = EstimatorPhase::SlowStart { rate, successes: 0 };
        }
    }

    /// Returns the rate in force; none: as fast as work comes.
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

    /// Returns the window in which one unit too many locks us out, or may do so: it was found, or is tried.
    pub(super) fn hard_limit_window(&self) -> Option<Duration> {
        let found = self.window.filter(|_| self.has_lock_out);
        match self.phase {
            EstimatorPhase::Inactive | EstimatorPhase::SlowStart { .. } => None,
            EstimatorPhase::Steady { .. } => found,
            EstimatorPhase::Probing { rate, .. } => self.candidate_window(rate).or(found),
        }
    }

    pub(super) fn rate_source(&self) -> RateSource {
        match self.phase {
            EstimatorPhase::Inactive => RateSource::Unlimited,
            EstimatorPhase::SlowStart { .. } => RateSource::SlowStart,
            EstimatorPhase::Steady { .. } => RateSource::Learned,
            EstimatorPhase::Probing { .. } => RateSource::Probe,
        }
    }

    /// The pace held a request back.
    pub(super) fn record_paced(&mut self) {
        self.is_pace_limited = true;
    }

    /// Returns the longest pause between two requests that still counts as work.
    pub(super) fn idle_threshold(&self) -> Duration {
        self.rate().map_or(IDLE_THRESHOLD_MIN, |rate| {
            IDLE_THRESHOLD_MIN.max(rate.interval().saturating_mul(3))
        })
    }

    /// Nothing ran for so long: it is no part of a cycle, nor of the time that a rate was held.
    pub(super) fn exclude_idle(&mut self, rest: Duration) {
        self.cycle.exclude_idle(rest);
        self.phase.map_times(|at| at.after(rest));
    }

    /// The clock was set by so much.
    pub(super) fn shift_by(&mut self, step: ClockStep) {
        self.cycle.shift_by(step);
        self.next_probe_at = self.next_probe_at.map(|at| at.shifted_by(step));
        self.phase.map_times(|at| at.shifted_by(step));
    }

    /// A request is sent. Begins the cycle anew after a pause, which is nobody's window.
    pub(super) fn record_sent(&mut self, now: Timestamp) {
        if now.since(self.cycle.last_sent_at) > self.idle_threshold()
            && self.cycle.throttle.is_none()
        {
            self.cycle = MeasurementCycle::new(now);
        }
        self.cycle.last_sent_at = now;
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
                let is_proven = self.window.is_none_or(|window| now.since(*since) > window * 2);
                if is_proven && self.is_pace_limited {
                    self.decreases = 0;
                }
                let proven_for = now.since(*since);
                if self.next_probe_at.is_some_and(|at| at <= now) && proven_for > PROOF_DURATION_MIN
                {
                    self.start_probe(now);
                }
            }
            EstimatorPhase::Probing { rate, since, units } => {
                *units += weight;
                let (rate, since, units) = (*rate, *since, *units);
                if now.since(since) >= self.proof_duration(rate) && units >= 20.0 {
                    self.record_proven_rate(rate, now);
                }
            }
        }
    }

    /// The server refused, for a reason it does not tell, at the rate in force.
    pub(super) fn record_throttled(&mut self, now: Timestamp) {
        if let Some(throttle) = &mut self.cycle.throttle {
            throttle.last_at = now;
            return;
        }
        let rate = self.rate().unwrap_or_else(|| self.cycle.accepted_rate(now));
        self.cycle.throttle = Some(ThrottleEpisode { first_at: now, last_at: now, rate });
    }

    /// Returns when the window that seems to be in force ends, if all it grants is used.
    pub(super) fn window_end(&self, now: Timestamp) -> Option<Timestamp> {
        let window = self.window?;
        let ends = self.cycle.started_at.after(window);
        let is_used = self.matches_first_burst(self.cycle.accepted_units);
        (is_used && ends > now && !self.has_lock_out).then_some(ends)
    }

    /// The first success after a hold. `told`: the server named the moment itself.
    pub(super) fn record_recovery(&mut self, told: Option<Duration>, now: Timestamp) {
        let Some(throttle) = self.cycle.throttle else { return };
        let cycle = self.cycle;
        self.cycle = cycle.next_cycle(told, now);
        self.throttle_cost = now.since(throttle.first_at);
        let (earliest, latest) = cycle.recovery_bounds(told, now);
        let accepted = cycle.accepted_units.max(1.0);
        let round = self.matching_window(cycle.window_bounds(earliest, latest));
        let span = round.unwrap_or(latest);
        let estimate = Rate::from_units(accepted, span);
        self.estimate = Some(estimate);
        self.cycles = self.cycles.saturating_add(1);
        let careful = estimate.scaled(round.map_or(common_windows::SAFETY_FACTOR, safety_factor));
        let is_search = match self.phase {
            EstimatorPhase::Inactive | EstimatorPhase::SlowStart { .. } => true,
            EstimatorPhase::Steady { .. } => false,
            EstimatorPhase::Probing { rate, .. } => self.candidate_window(rate).is_some(),
        };
        match (self.phase, self.known_good) {
            (EstimatorPhase::Inactive | EstimatorPhase::SlowStart { .. }, _) | (_, None) => {
                self.first_burst = Some(accepted);
                self.window = Some(span);
                self.known_bad = Some(throttle.rate);
                self.known_good = Some(careful);
            }
            (EstimatorPhase::Probing { rate, since, units }, Some(good)) => {
                let end = cycle.started_at.after(latest);
                let while_trying =
                    Rate::from_units(units.max(1.0), end.since(since).max(PROBE_DURATION_MIN));
                self.record_failed_probe(rate, good, careful, while_trying);
            }
            (EstimatorPhase::Steady { .. }, Some(good)) => {
                let is_same = self.matches_first_burst(accepted);
                if is_same {
                    // The first hold ended with a window that had begun long before it.
                    self.window = Some(span);
                }
                self.decrease_known_good(good, careful, is_same);
            }
        }
        self.is_pace_limited = false;
        if self.should_restart_slow_start(accepted) {
            self.phase = EstimatorPhase::SlowStart {
                rate: careful.max(Rate::per_second(SLOW_START_RATE)),
                successes: 0,
            };
            self.schedule_probe(now);
        } else if is_search {
            let was_lock_out = !common_windows::is_near_common_window(earliest, latest);
            let cost_max = if was_lock_out { SEARCH_COST_MAX_LOCK_OUT } else { SEARCH_COST_MAX };
            self.search_candidates(cost_max, now);
        } else {
            self.hold_steady(now);
        }
    }

    /// The first throttle may have been about anything when next to nothing went before it. Where
    /// another costs little, slow start begins anew.
    fn should_restart_slow_start(&self, accepted: f64) -> bool {
        self.cycles == 1
            && accepted < EARLY_THROTTLE_UNITS
            && self.throttle_cost <= EARLY_THROTTLE_COST_MAX
    }

    /// Returns the span of whole windows that ended within bounds, if one is likely.
    fn matching_window(&self, (earliest, latest): (Duration, Duration)) -> Option<Duration> {
        let known = self.window.filter(|window| !self.has_lock_out && *window > BUCKET_WINDOW_MAX);
        let repeated = || common_windows::window_multiple(known?, earliest, latest);
        common_windows::window_between(earliest, latest).or_else(repeated)
    }

    /// Whether so much was accepted as in the burst up to the first throttle.
    fn matches_first_burst(&self, accepted: f64) -> bool {
        self.first_burst.is_some_and(|burst| (accepted / burst - 1.0).abs() < 0.1)
    }

    /// The good rate was refused. `is_burst`: after as much as the first burst had.
    fn decrease_known_good(&mut self, good: Rate, careful: Rate, is_burst: bool) {
        self.decreases = self.decreases.saturating_add(1);
        // A lock-out makes the estimate of one cycle too low, so it is believed in steps.
        let least =
            if self.has_lock_out { DECREASE_FACTOR_MIN_LOCK_OUT } else { DECREASE_FACTOR_MIN };
        let is_believed = is_burst || self.decreases > 1;
        let less = if is_believed { careful } else { careful.max(good.scaled(least)) };
        self.known_good = Some(less.min(good));
        self.failed_probes = 0;
        // What was good may be so again, once whoever shares the quota rests.
        self.known_bad = Some(good.scaled(1.0 + PROBE_STEP));
        self.probe_step = PROBE_STEP_AFTER_DECREASE;
    }

    fn record_failed_probe(&mut self, tried: Rate, good: Rate, careful: Rate, while_trying: Rate) {
        self.failed_probes = (self.failed_probes + 1).min(16);
        self.probe_step = PROBE_STEP;
        // The try, with the hold it led to, was about as fast as the good rate: the ceiling is there.
        // After a lock-out it never is, and one likely rate that fails must do.
        let has_next = self
            .first_burst
            .and_then(|burst| common_windows::next_candidate_rate(burst, good, tried))
            .is_some();
        let is_near = tried.get() < good.get() * NEAR_GOOD_FACTOR;
        let is_ceiling =
            (is_near && while_trying.get() > good.get() * 0.9) || (self.has_lock_out && !has_next);
        self.known_bad = if is_ceiling { None } else { Some(tried) };
        if careful > good && careful < tried {
            self.known_good = Some(careful);
        }
    }

    fn record_proven_rate(&mut self, rate: Rate, now: Timestamp) {
        if !self.is_pace_limited {
            // The work was slower than the pace, which proves nothing.
            self.phase = EstimatorPhase::Probing { rate, since: now, units: 0.0 };
            return;
        }
        if let Some(window) = self.candidate_window(rate) {
            // The hold was longer than the window: a lock-out.
            self.window = Some(window);
            self.has_lock_out = true;
        }
        self.known_good = Some(rate);
        self.decreases = 0;
        self.failed_probes = (self.failed_probes - 1).max(0);
        self.probe_step = (self.probe_step * 2.0).min(PROBE_STEP_MAX);
        if self.known_bad.is_some_and(|bad| bad.get() < rate.get() * 1.02) {
            self.known_bad = None;
        }
        if self.known_bad.is_some() {
            self.search_candidates(SEARCH_COST_MAX, now);
        } else {
            self.start_probe(now);
        }
    }

    /// Tries a likely rate at once, since the hold may have been a lock-out, far longer than the window;
    /// settles when none is left. Each that holds leads to a faster one, and each that fails to a slower
    /// one, so that one refusal more is all that most windows cost.
    fn search_candidates(&mut self, cost_max: Duration, now: Timestamp) {
        self.hold_steady(now);
        let bounds = self.first_burst.zip(self.known_good).zip(self.known_bad);
        let likely = bounds.and_then(|((burst, good), bad)| {
            common_windows::search_candidate_rate(burst, good, bad)
        });
        if let Some(likely) = likely.filter(|_| self.throttle_cost <= cost_max) {
            self.start_probe_at(likely, now);
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

    /// Plans the next probe: failed ones may cost at most half of what they hope to gain.
    fn schedule_probe(&mut self, now: Timestamp) {
        let (Some(good), Some(target)) = (self.known_good, self.next_target()) else { return };
        let gain = (target.get() / good.get() - 1.0).max(0.001);
        let doublings = 2_f64.powi(self.failed_probes.clamp(0, 16));
        let share = if self.has_lock_out { LOCK_OUT_COST_SHARE_MAX } else { f64::INFINITY };
        let interval = self.throttle_cost.as_secs_f64() / (gain / 2.0).min(share) * doublings;
        let interval = Duration::try_from_secs_f64(interval).unwrap_or(PROBE_INTERVAL_MAX);
        // A limit that is gone again must not slow everything down for days.
        let is_bold = gain >= 0.5 && self.failed_probes == 0;
        let longest = if is_bold { BOLD_PROBE_INTERVAL_MAX } else { PROBE_INTERVAL_MAX };
        self.next_probe_at = Some(now.after(interval.min(longest)));
    }

    /// Returns the rate to try next.
    fn next_target(&self) -> Option<Rate> {
        let good = self.known_good?;
        let small = good.scaled(1.0 + self.probe_step);
        let Some(bad) = self.known_bad else { return Some(small) };
        if let Some(natural) =
            self.first_burst.and_then(|burst| common_windows::next_candidate_rate(burst, good, bad))
        {
            return Some(natural);
        }
        let middle = Rate::per_second((good.get() * bad.get()).sqrt());
        Some(if middle.get() > good.get() * 1.05 { middle } else { small })
    }

    /// Returns the usual window in which the first burst has this rate.
    fn candidate_window(&self, rate: Rate) -> Option<Duration> {
        common_windows::window_for_rate(self.first_burst?, rate)
    }

    /// Returns how long a rate must hold to be believed.
    fn proof_duration(&self, rate: Rate) -> Duration {
        let window = self.window.unwrap_or(PROOF_DURATION_MIN);
        let (Some(burst), Some(estimate)) = (self.first_burst, self.estimate) else {
            return PROOF_DURATION_MIN;
        };
        let needed = if window > BUCKET_WINDOW_MAX {
            (PROOF_WINDOWS * window.as_secs_f64()).min(2.0 * burst / rate.get())
        } else {
            // Probably a bucket, which must be emptied before it refuses.
            (burst / (rate.get() - estimate.get()).max(0.001)).min(BUCKET_PROOF_SECS_MAX)
        };
        Duration::from_secs_f64(needed).max(PROOF_DURATION_MIN)
    }
}
