//! Limit of the server as far as throttles reveal it: units per window.

use std::time::Duration;

use crate::rate_limit::estimator::common_windows;
use crate::rate_limit::rate::Rate;

/// Windows for which a step must succeed to be accepted.
const PROOF_WINDOWS: f64 = 1.2;

/// Minimum time for which a step must succeed to be accepted.
pub(super) const PROOF_DURATION_MIN: Duration = Duration::from_secs(30);

/// Windows up to this length are treated as a token bucket, which recovers sooner.
const BUCKET_WINDOW_MAX: Duration = Duration::from_secs(3);

/// Maximum time to empty a bucket, in seconds. A larger bucket is not worth the wait.
const BUCKET_PROOF_SECS_MAX: f64 = 240.0;

/// Maximum share of the time that probes may cost if they lock us out.
const LOCK_OUT_COST_SHARE_MAX: f64 = 0.05;

/// Units per window that the first throttle suggested, corrected by later ones.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct LearnedLimit {
    /// Units accepted up to the first throttle.
    pub(crate) first_burst: Option<f64>,
    /// Window that the first burst seems to belong to.
    pub(crate) window: Option<Duration>,
    /// A throttle costs more than the window, so that its end does not follow from the window.
    pub(super) has_lock_out: bool,
}

impl LearnedLimit {
    /// Returns the window in which one unit too many locks us out.
    pub(super) fn lock_out_window(&self) -> Option<Duration> {
        self.window.filter(|_| self.has_lock_out)
    }

    /// Records that a throttle lasted longer than the window, which is now known.
    pub(super) fn record_lock_out(&mut self, window: Duration) {
        self.window = Some(window);
        self.has_lock_out = true;
    }

    /// Returns the length of the whole windows that ended within the bounds, if one is likely.
    pub(super) fn matching_window(
        &self,
        (earliest, latest): (Duration, Duration),
    ) -> Option<Duration> {
        let known = self.window.filter(|window| !self.has_lock_out && *window > BUCKET_WINDOW_MAX);
        let repeated = || common_windows::window_multiple(known?, earliest, latest);
        common_windows::window_between(earliest, latest).or_else(repeated)
    }

    /// Returns true if about as much was accepted as in the burst up to the first throttle.
    pub(super) fn matches_first_burst(&self, accepted: f64) -> bool {
        self.first_burst.is_some_and(|burst| (accepted / burst - 1.0).abs() < 0.1)
    }

    /// Returns the common window in which the first burst has this rate.
    pub(super) fn candidate_window(&self, rate: Rate) -> Option<Duration> {
        common_windows::window_for_rate(self.first_burst?, rate)
    }

    /// Returns the next rate between a good and a bad one that a common window suggests.
    pub(super) fn next_candidate_rate(&self, good: Rate, bad: Rate) -> Option<Rate> {
        common_windows::next_candidate_rate(self.first_burst?, good, bad)
    }

    /// Returns the rate between a good and a bad one that is searched first.
    pub(super) fn search_candidate_rate(&self, good: Rate, bad: Rate) -> Option<Rate> {
        common_windows::search_candidate_rate(self.first_burst?, good, bad)
    }

    /// Returns true if a rate has succeeded for so long that a window of it would have throttled.
    pub(super) fn is_proven_after(&self, elapsed: Duration) -> bool {
        self.window.is_none_or(|window| elapsed > window * 2)
    }

    /// Returns the time for which a rate must succeed to be accepted, given the last estimate.
    pub(super) fn proof_duration(&self, rate: Rate, estimate: Option<Rate>) -> Duration {
        let window = self.window.unwrap_or(PROOF_DURATION_MIN);
        let (Some(burst), Some(estimate)) = (self.first_burst, estimate) else {
            return PROOF_DURATION_MIN;
        };
        let needed = if window > BUCKET_WINDOW_MAX {
            (PROOF_WINDOWS * window.as_secs_f64()).min(2.0 * burst / rate.get())
        } else {
            // Probably a token bucket, which must be emptied before it throttles.
            (burst / (rate.get() - estimate.get()).max(0.001)).min(BUCKET_PROOF_SECS_MAX)
        };
        Duration::from_secs_f64(needed).max(PROOF_DURATION_MIN)
    }

    /// Returns the maximum share of the time that probes may cost.
    pub(super) fn probe_cost_share_max(&self) -> f64 {
        if self.has_lock_out { LOCK_OUT_COST_SHARE_MAX } else { f64::INFINITY }
    }
}
