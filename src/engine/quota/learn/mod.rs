//! Learns the rate of a server that does not tell it.
//!
//! Slow start up to the first throttle. Then the rate is what was accepted over whole cycles, from
//! one recovery to the next, holds included, which no limiter exceeds for long; and faster rates are
//! tried as CUBIC does (RFC 9438): a long plateau at the last good rate, a small step, and growing
//! steps while they hold.

mod cycle;
mod memory;
mod spans;
mod stage;

use std::time::Duration;

use crate::engine::quota::{Basis, Rate};
use crate::engine::{ClockStep, Timestamp};

use self::cycle::{Cycle, PAUSE_MAX, Throttle};

pub(super) use self::spans::caution;
pub(super) use self::stage::Stage;

pub use self::memory::LearnerMemory;

/// Slow start begins here: a fast server is reached in half a second, and a slow one loses little.
const FIRST: f64 = 50.0;

/// Beyond this nothing is paced: no limiter is as fast.
const UNPACED: f64 = 200_000.0;

/// Successes after which slow start doubles, if the pace was what held it back.
const ROUND: u32 = 10;

/// The first step of a probe.
const STEP: f64 = 0.02;

/// The first step after a rate that had been good was refused.
const STEP_SHARED: f64 = 0.1;

/// A try is at least this long, or its rate could be anything.
const PROBE_MIN: Duration = Duration::from_millis(100);

/// Steps double up to this.
const STEP_MAX: f64 = 1.0;

/// A step is believed after so many of the windows that are seen.
const PROOF: f64 = 1.2;

/// A step is believed after at least this.
const PROOF_MIN: Duration = Duration::from_secs(30);

/// A bucket takes the next request sooner than this.
const BUCKET_MAX: Duration = Duration::from_secs(3);

/// A bucket larger than what this takes to empty is not worth the wait, in seconds.
const BUCKET_PROOF_MAX: f64 = 240.0;

/// What is kept at least of a good rate that was refused once.
const LESS: f64 = 0.7;

/// The same for a lock-out, whose cycle says little: replies that came unsteadily may be all it was.
const LESS_LOCKED: f64 = 0.96;

/// A rate that fails within this of the good one leaves no room for another between them.
const NEAR: f64 = 1.06;

/// The share of the time that tries may cost which lock us out.
const COST_LOCKED_MAX: f64 = 0.05;

/// Likely rates are tried at once while a refusal costs no more than this: lock-outs of a quarter of an hour
/// are met, and one of an hour is not met for a guess.
const COST_SEARCH_MAX: Duration = Duration::from_secs(1200);

/// The same where no usual window ended with the hold, and so a lock-out did, which our own tries may have drawn out
/// as they will not the next one.
const COST_SEARCH_LOCKED_MAX: Duration = Duration::from_secs(5400);

/// Nor is the first one further away than this, if it is for much.
const INTERVAL_BOLD: Duration = Duration::from_secs(600);

/// A throttle after fewer units than this is early.
const EARLY: f64 = 50.0;

/// What an early throttle may cost to be worth another.
const COST_EARLY_MAX: Duration = Duration::from_secs(120);

/// No probe is further away than this.
const INTERVAL_MAX: Duration = Duration::from_secs(24 * 3600);

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Learner {
    pub(super) stage: Stage,
    /// The rate that no throttle contradicts.
    pub(super) good: Option<Rate>,
    /// A rate known to be too fast; none when the ceiling is where `good` is.
    pub(super) bad: Option<Rate>,
    pub(super) estimate: Option<Rate>,
    pub(super) cycles: u32,
    pub(super) next_probe: Option<Timestamp>,
    /// Probes that failed in a row, less those that held.
    pub(super) failures: i32,
    /// What one throttle cost.
    pub(super) cost: Duration,
    /// The units of a burst up to the first throttle, and the window they seem to belong to.
    pub(super) burst: Option<f64>,
    pub(super) window: Option<Duration>,
    /// A throttle costs more than the window: when it ends cannot be told from the window.
    pub(super) is_lock_out: bool,
    step: f64,
    cycle: Cycle,
    /// The pace, not the work, held requests back since this was last cleared.
    is_binding: bool,
    /// Throttles at or below the good rate, with no proof of it between.
    demotions: u32,
}

impl Learner {
    pub(super) fn new(now: Timestamp) -> Self {
        Self {
            stage: Stage::Slow { rate: Rate::per_second(FIRST), successes: 0 },
            good: None,
            bad: None,
            estimate: None,
            cycles: 0,
            next_probe: None,
            failures: 0,
            cost: Duration::ZERO,
            burst: None,
            window: None,
            is_lock_out: false,
            step: STEP,
            cycle: Cycle::new(now),
            is_binding: false,
            demotions: 0,
        }
    }

    /// Lets slow start begin at a rate that was told before, unless something was learned.
    pub(super) fn begin_at(&mut self, rate: Rate) {
        if matches!(self.stage, Stage::Slow { .. }) {
            self.stage = Stage::Slow { rate, successes: 0 };
        }
    }

    /// Goes on from what another process learned. Slow start and sleep are each one's own, unless it was throttled.
    pub(super) fn adopt(&mut self, theirs: Self) {
        let is_early = matches!(theirs.stage, Stage::Asleep | Stage::Slow { .. });
        let (stage, is_binding) = (self.stage, self.is_binding);
        *self = theirs;
        self.is_binding = is_binding;
        if is_early && matches!(stage, Stage::Asleep | Stage::Slow { .. }) {
            self.stage = stage;
        }
    }

    /// The server tells its rate, so there is nothing to learn until it turns out to hide something.
    pub(super) fn sleep(&mut self) {
        if matches!(self.stage, Stage::Slow { .. }) && self.cycle.throttle.is_none() {
            self.stage = Stage::Asleep;
        }
    }

    /// The server stopped telling its rate.
    pub(super) fn wake(&mut self, rate: Option<Rate>) {
        if self.stage == Stage::Asleep {
            let rate = rate.unwrap_or_else(|| Rate::per_second(FIRST));
            self.stage = Stage::Slow { rate, successes: 0 };
        }
    }

    /// Returns the rate in force; none: as fast as work comes.
    pub(super) fn rate(&self) -> Option<Rate> {
        match self.stage {
            Stage::Asleep => None,
            Stage::Slow { rate, .. } => (rate.get() < UNPACED).then_some(rate),
            Stage::Settled { .. } => self.good,
            Stage::Probe { rate, .. } => Some(rate),
        }
    }

    /// Returns the window in which one unit too many locks us out, or may do so: it was found, or is tried.
    pub(super) fn strict_window(&self) -> Option<Duration> {
        let found = self.window.filter(|_| self.is_lock_out);
        match self.stage {
            Stage::Asleep | Stage::Slow { .. } => None,
            Stage::Settled { .. } => found,
            Stage::Probe { rate, .. } => self.likely_window(rate).or(found),
        }
    }

    pub(super) fn basis(&self) -> Basis {
        match self.stage {
            Stage::Asleep => Basis::Nothing,
            Stage::Slow { .. } => Basis::SlowStart,
            Stage::Settled { .. } => Basis::Learned,
            Stage::Probe { .. } => Basis::Probe,
        }
    }

    /// The pace held a request back.
    pub(super) fn held_back(&mut self) {
        self.is_binding = true;
    }

    /// Returns the longest pause between two requests that still counts as work.
    pub(super) fn pause_max(&self) -> Duration {
        self.rate().map_or(PAUSE_MAX, |rate| PAUSE_MAX.max(rate.interval().saturating_mul(3)))
    }

    /// Nothing ran for so long: it is no part of a cycle, nor of the time that a rate was held.
    pub(super) fn rested(&mut self, rest: Duration) {
        self.cycle.rested(rest);
        self.stage.shift(|at| at.after(rest));
    }

    /// The clock was set by so much.
    pub(super) fn move_by(&mut self, step: ClockStep) {
        self.cycle.move_by(step);
        self.next_probe = self.next_probe.map(|at| at.shifted_by(step));
        self.stage.shift(|at| at.shifted_by(step));
    }

    /// A request is sent. Begins the cycle anew after a pause, which is nobody's window.
    pub(super) fn sent(&mut self, now: Timestamp) {
        if now.since(self.cycle.last) > self.pause_max() && self.cycle.throttle.is_none() {
            self.cycle = Cycle::new(now);
        }
        self.cycle.last = now;
    }

    pub(super) fn accepted(&mut self, weight: f64, now: Timestamp) {
        self.cycle.accepted += weight;
        match &mut self.stage {
            Stage::Asleep => {}
            Stage::Slow { rate, successes } => {
                *successes += 1;
                if *successes >= ROUND && self.is_binding {
                    *rate = rate.times(2.0);
                    *successes = 0;
                    self.is_binding = false;
                }
            }
            Stage::Settled { since, units } => {
                *units += weight;
                let is_proven = self.window.is_none_or(|window| now.since(*since) > window * 2);
                if is_proven && self.is_binding {
                    self.demotions = 0;
                }
                let proven_for = now.since(*since);
                if self.next_probe.is_some_and(|at| at <= now) && proven_for > PROOF_MIN {
                    self.probe(now);
                }
            }
            Stage::Probe { rate, since, units } => {
                *units += weight;
                let (rate, since, units) = (*rate, *since, *units);
                if now.since(since) >= self.proof(rate) && units >= 20.0 {
                    self.proven(rate, now);
                }
            }
        }
    }

    /// The server refused, for a reason it does not tell, at the rate in force.
    pub(super) fn throttled(&mut self, now: Timestamp) {
        if let Some(throttle) = &mut self.cycle.throttle {
            throttle.last = now;
            return;
        }
        let rate = self.rate().unwrap_or_else(|| self.cycle.rate(now));
        self.cycle.throttle = Some(Throttle { first: now, last: now, rate });
    }

    /// Returns when the window that seems to be in force ends, if all it grants is used.
    pub(super) fn window_ends(&self, now: Timestamp) -> Option<Timestamp> {
        let window = self.window?;
        let ends = self.cycle.began.after(window);
        let is_used = self.is_burst(self.cycle.accepted);
        (is_used && ends > now && !self.is_lock_out).then_some(ends)
    }

    /// The first success after a hold. `told`: the server named the moment itself.
    pub(super) fn recovered(&mut self, told: Option<Duration>, now: Timestamp) {
        let Some(throttle) = self.cycle.throttle else { return };
        let cycle = self.cycle;
        self.cycle = cycle.next(told, now);
        self.cost = now.since(throttle.first);
        let (earliest, latest) = cycle.bounds(told, now);
        let accepted = cycle.accepted.max(1.0);
        let round = self.round(cycle.windows(earliest, latest));
        let span = round.unwrap_or(latest);
        let estimate = Rate::of(accepted, span);
        self.estimate = Some(estimate);
        self.cycles = self.cycles.saturating_add(1);
        let careful = estimate.times(round.map_or(spans::CAUTION, caution));
        let is_search = match self.stage {
            Stage::Asleep | Stage::Slow { .. } => true,
            Stage::Settled { .. } => false,
            Stage::Probe { rate, .. } => self.likely_window(rate).is_some(),
        };
        match (self.stage, self.good) {
            (Stage::Asleep | Stage::Slow { .. }, _) | (_, None) => {
                self.burst = Some(accepted);
                self.window = Some(span);
                self.bad = Some(throttle.rate);
                self.good = Some(careful);
            }
            (Stage::Probe { rate, since, units }, Some(good)) => {
                let end = cycle.began.after(latest);
                let while_trying = Rate::of(units.max(1.0), end.since(since).max(PROBE_MIN));
                self.failed(rate, good, careful, while_trying);
            }
            (Stage::Settled { .. }, Some(good)) => {
                let is_same = self.is_burst(accepted);
                if is_same {
                    // The first hold ended with a window that had begun long before it.
                    self.window = Some(span);
                }
                self.demoted(good, careful, is_same);
            }
        }
        self.is_binding = false;
        if self.is_worth_another_try(accepted) {
            self.stage = Stage::Slow { rate: careful.max(Rate::per_second(FIRST)), successes: 0 };
            self.plan(now);
        } else if is_search {
            let was_lock_out = !spans::is_near_usual(earliest, latest);
            let cost_max = if was_lock_out { COST_SEARCH_LOCKED_MAX } else { COST_SEARCH_MAX };
            self.search(cost_max, now);
        } else {
            self.settle(now);
        }
    }

    /// The first throttle may have been about anything when next to nothing went before it. Where
    /// another costs little, slow start begins anew.
    fn is_worth_another_try(&self, accepted: f64) -> bool {
        self.cycles == 1 && accepted < EARLY && self.cost <= COST_EARLY_MAX
    }

    /// Returns the span of whole windows that ended within bounds, if one is likely.
    fn round(&self, (earliest, latest): (Duration, Duration)) -> Option<Duration> {
        let known = self.window.filter(|window| !self.is_lock_out && *window > BUCKET_MAX);
        let repeated = || spans::multiple(known?, earliest, latest);
        spans::between(earliest, latest).or_else(repeated)
    }

    /// Whether so much was accepted as in the burst up to the first throttle.
    fn is_burst(&self, accepted: f64) -> bool {
        self.burst.is_some_and(|burst| (accepted / burst - 1.0).abs() < 0.1)
    }

    /// The good rate was refused. `is_burst`: after as much as the first burst had.
    fn demoted(&mut self, good: Rate, careful: Rate, is_burst: bool) {
        self.demotions = self.demotions.saturating_add(1);
        // A lock-out makes the estimate of one cycle too low, so it is believed in steps.
        let least = if self.is_lock_out { LESS_LOCKED } else { LESS };
        let is_believed = is_burst || self.demotions > 1;
        let less = if is_believed { careful } else { careful.max(good.times(least)) };
        self.good = Some(less.min(good));
        self.failures = 0;
        // What was good may be so again, once whoever shares the quota rests.
        self.bad = Some(good.times(1.0 + STEP));
        self.step = STEP_SHARED;
    }

    fn failed(&mut self, tried: Rate, good: Rate, careful: Rate, while_trying: Rate) {
        self.failures = (self.failures + 1).min(16);
        self.step = STEP;
        // The try, with the hold it led to, was about as fast as the good rate: the ceiling is there.
        // After a lock-out it never is, and one likely rate that fails must do.
        let has_next = self.burst.and_then(|burst| spans::next_rate(burst, good, tried)).is_some();
        let is_near = tried.get() < good.get() * NEAR;
        let is_ceiling =
            (is_near && while_trying.get() > good.get() * 0.9) || (self.is_lock_out && !has_next);
        self.bad = if is_ceiling { None } else { Some(tried) };
        if careful > good && careful < tried {
            self.good = Some(careful);
        }
    }

    fn proven(&mut self, rate: Rate, now: Timestamp) {
        if !self.is_binding {
            // The work was slower than the pace, which proves nothing.
            self.stage = Stage::Probe { rate, since: now, units: 0.0 };
            return;
        }
        if let Some(window) = self.likely_window(rate) {
            // The hold was longer than the window: a lock-out.
            self.window = Some(window);
            self.is_lock_out = true;
        }
        self.good = Some(rate);
        self.demotions = 0;
        self.failures = (self.failures - 1).max(0);
        self.step = (self.step * 2.0).min(STEP_MAX);
        if self.bad.is_some_and(|bad| bad.get() < rate.get() * 1.02) {
            self.bad = None;
        }
        if self.bad.is_some() {
            self.search(COST_SEARCH_MAX, now);
        } else {
            self.probe(now);
        }
    }

    /// Tries a likely rate at once, since the hold may have been a lock-out, far longer than the window;
    /// settles when none is left. Each that holds leads to a faster one, and each that fails to a slower
    /// one, so that one refusal more is all that most windows cost.
    fn search(&mut self, cost_max: Duration, now: Timestamp) {
        self.settle(now);
        let bounds = self.burst.zip(self.good).zip(self.bad);
        let likely = bounds.and_then(|((burst, good), bad)| spans::searched_rate(burst, good, bad));
        if let Some(likely) = likely.filter(|_| self.cost <= cost_max) {
            self.attempt(likely, now);
        }
    }

    fn settle(&mut self, now: Timestamp) {
        self.stage = Stage::Settled { since: now, units: 0.0 };
        self.plan(now);
    }

    fn probe(&mut self, now: Timestamp) {
        if let Some(target) = self.target() {
            self.attempt(target, now);
        }
    }

    fn attempt(&mut self, rate: Rate, now: Timestamp) {
        self.stage = Stage::Probe { rate, since: now, units: 0.0 };
        self.is_binding = false;
    }

    /// Plans the next probe: failed ones may cost at most half of what they hope to gain.
    fn plan(&mut self, now: Timestamp) {
        let (Some(good), Some(target)) = (self.good, self.target()) else { return };
        let gain = (target.get() / good.get() - 1.0).max(0.001);
        let doublings = 2_f64.powi(self.failures.clamp(0, 16));
        let share = if self.is_lock_out { COST_LOCKED_MAX } else { f64::INFINITY };
        let interval = self.cost.as_secs_f64() / (gain / 2.0).min(share) * doublings;
        let interval = Duration::try_from_secs_f64(interval).unwrap_or(INTERVAL_MAX);
        // A limit that is gone again must not slow everything down for days.
        let is_bold = gain >= 0.5 && self.failures == 0;
        let longest = if is_bold { INTERVAL_BOLD } else { INTERVAL_MAX };
        self.next_probe = Some(now.after(interval.min(longest)));
    }

    /// Returns the rate to try next.
    fn target(&self) -> Option<Rate> {
        let good = self.good?;
        let small = good.times(1.0 + self.step);
        let Some(bad) = self.bad else { return Some(small) };
        if let Some(natural) = self.burst.and_then(|burst| spans::next_rate(burst, good, bad)) {
            return Some(natural);
        }
        let middle = Rate::per_second((good.get() * bad.get()).sqrt());
        Some(if middle.get() > good.get() * 1.05 { middle } else { small })
    }

    /// Returns the usual window in which the first burst has this rate.
    fn likely_window(&self, rate: Rate) -> Option<Duration> {
        spans::window_of(self.burst?, rate)
    }

    /// Returns how long a rate must hold to be believed.
    fn proof(&self, rate: Rate) -> Duration {
        let window = self.window.unwrap_or(PROOF_MIN);
        let (Some(burst), Some(estimate)) = (self.burst, self.estimate) else { return PROOF_MIN };
        let needed = if window > BUCKET_MAX {
            (PROOF * window.as_secs_f64()).min(2.0 * burst / rate.get())
        } else {
            // Probably a bucket, which must be emptied before it refuses.
            (burst / (rate.get() - estimate.get()).max(0.001)).min(BUCKET_PROOF_MAX)
        };
        Duration::from_secs_f64(needed).max(PROOF_MIN)
    }
}
