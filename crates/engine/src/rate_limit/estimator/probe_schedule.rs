//! Schedule of the probes of faster rates.

use std::time::Duration;

use crate::rate_limit::rate::Rate;
use crate::{ClockStep, Timestamp};

/// First step of a probe, as a share of the good rate.
pub(super) const PROBE_STEP: f64 = 0.02;

/// First step after a good rate was throttled.
const PROBE_STEP_AFTER_DECREASE: f64 = 0.1;

/// Maximum step of a probe.
const PROBE_STEP_MAX: f64 = 1.0;

/// Maximum number of failed probes that are counted: each doubles the interval.
const FAILED_PROBES_MAX: i32 = 16;

/// Maximum time until the first probe, if it may gain much.
const BOLD_PROBE_INTERVAL_MAX: Duration = Duration::from_secs(600);

const PROBE_INTERVAL_MAX: Duration = Duration::from_secs(24 * 3600);

/// Time and step of the next probe, by the success of those before.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct ProbeSchedule {
    pub(crate) next_at: Option<Timestamp>,
    /// Failed probes in a row, minus the successful ones.
    failed: i32,
    /// Step of the next probe, as a share of the good rate.
    step: f64,
}

impl ProbeSchedule {
    pub(super) fn new() -> Self {
        Self { next_at: None, failed: 0, step: PROBE_STEP }
    }

    /// Restores the schedule. The steps start again.
    pub(super) fn restore(next_at: Option<Timestamp>, failed: i32) -> Self {
        Self { next_at, failed: failed.clamp(0, FAILED_PROBES_MAX), ..Self::new() }
    }

    /// Returns the number of failed probes in a row, minus the successful ones.
    pub(super) fn failed(&self) -> i32 {
        self.failed
    }

    pub(super) fn is_due(&self, now: Timestamp) -> bool {
        self.next_at.is_some_and(|at| at <= now)
    }

    /// Returns the rate that is one step faster than the good one.
    pub(super) fn next_step(&self, good: Rate) -> Rate {
        good.scaled(1.0 + self.step)
    }

    pub(super) fn record_success(&mut self) {
        self.failed = (self.failed - 1).max(0);
        self.step = (self.step * 2.0).min(PROBE_STEP_MAX);
    }

    pub(super) fn record_failure(&mut self) {
        self.failed = (self.failed + 1).min(FAILED_PROBES_MAX);
        self.step = PROBE_STEP;
    }

    /// Starts again, because the good rate itself was throttled.
    pub(super) fn record_decrease(&mut self) {
        self.failed = 0;
        self.step = PROBE_STEP_AFTER_DECREASE;
    }

    /// Schedules the next probe: failed ones may cost at most half of the expected gain, and at
    /// most this share of the time. `gain`: share by which the probed rate is faster.
    pub(super) fn schedule(
        &mut self,
        gain: f64,
        throttle_cost: Duration,
        cost_share_max: f64,
        now: Timestamp,
    ) {
        let doublings = 2_f64.powi(self.failed.clamp(0, FAILED_PROBES_MAX));
        let interval = throttle_cost.as_secs_f64() / (gain / 2.0).min(cost_share_max) * doublings;
        let interval = Duration::try_from_secs_f64(interval).unwrap_or(PROBE_INTERVAL_MAX);
        // A limit that has been lifted must not slow everything down for days.
        let is_bold = gain >= 0.5 && self.failed == 0;
        let longest = if is_bold { BOLD_PROBE_INTERVAL_MAX } else { PROBE_INTERVAL_MAX };
        self.next_at = Some(now.after(interval.min(longest)));
    }

    /// Shifts the time of the next probe by a clock step.
    pub(super) fn shift_by(&mut self, step: ClockStep) {
        self.next_at = self.next_at.map(|at| at.shifted_by(step));
    }
}
