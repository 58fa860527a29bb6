//! Reset of a limit, tracked from response to response.

use std::time::Duration;

use crate::Timestamp;
use crate::rate_limit::reported_limits::{AdvertisedLimit, Reset, ResetMeaning};
use crate::rate_limit::tracked_limit::reset_unit::ResetUnitDetector;

/// Tolerance for resets: they come in whole seconds, and responses take time.
const RESET_TOLERANCE: Duration = Duration::from_millis(1500);

/// Time for which the unit of an ambiguous reset is observed before the first guess is used.
const UNIT_DETECTION_TIME: Duration = Duration::from_secs(2);

/// Time of the next reset, as far as the responses agree, and the unit in which it is sent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct TrackedReset {
    /// Latest of the resets that agree.
    pub(super) at: Option<Timestamp>,
    /// Earliest of the resets that agree. A window should be used up by then, while the next one is
    /// not relied on before the latest.
    pub(super) earliest_at: Timestamp,
    /// Reset that has passed without a response since.
    unconfirmed: Option<Timestamp>,
    /// Time since which the reset has stayed the same.
    stable_since: Timestamp,
    /// Distance of resets that move along with the clock, and the time since which it has been the
    /// same.
    distance: (Duration, Timestamp),
    /// Detects the unit of an ambiguous reset.
    unit_detector: ResetUnitDetector,
}

impl TrackedReset {
    pub(super) fn new(limit: &AdvertisedLimit, now: Timestamp) -> Self {
        let value = limit.reset.map_or(0.0, |reset| reset.value);
        Self {
            at: None,
            earliest_at: now,
            unconfirmed: None,
            stable_since: now,
            distance: (Duration::ZERO, now),
            unit_detector: ResetUnitDetector::new(value, now),
        }
    }

    /// Replaces the reset by another one, which nothing has confirmed yet.
    pub(super) fn set(&mut self, at: Timestamp, now: Timestamp) {
        self.unconfirmed = None;
        self.at = Some(at);
        self.earliest_at = at;
        self.stable_since = now;
    }

    /// Replaces a reset that has passed without a response by the expected `next` one.
    pub(super) fn advance_to(&mut self, next: Timestamp) {
        self.unconfirmed = self.unconfirmed.or(self.at);
        self.earliest_at = next;
        self.at = Some(next);
    }

    /// Returns true if a response that names the reset `seen` agrees with the `known` one.
    pub(super) fn agrees(&self, known: Timestamp, seen: Timestamp) -> bool {
        // A reset that moves along with the clock is not stable, however small its steps.
        let is_drifting = seen.since(self.earliest_at) > RESET_TOLERANCE * 2;
        seen.since(known) <= RESET_TOLERANCE && known.since(seen) <= RESET_TOLERANCE && !is_drifting
    }

    /// Records a reset that agrees with the `known` one.
    pub(super) fn confirm(&mut self, known: Timestamp, seen: Timestamp) {
        // Use the latest of those that agree: too late is better than too early.
        self.at = Some(known.max(seen));
        self.earliest_at = self.earliest_at.min(seen);
        self.unconfirmed = None;
    }

    /// Returns true if the reset has stayed the same for several times the tolerance.
    pub(super) fn is_stable(&self, now: Timestamp) -> bool {
        now.since(self.stable_since) > RESET_TOLERANCE * 4
    }

    /// Returns the last reset that a response named, where `known` is the current one.
    pub(super) fn last_reported(&self, known: Timestamp) -> Timestamp {
        self.unconfirmed.unwrap_or(known)
    }

    /// Returns true if a reset at `at` has come, up to the tolerance.
    pub(super) fn is_due(at: Timestamp, now: Timestamp) -> bool {
        now.after(RESET_TOLERANCE) >= at
    }

    /// Returns the time since which resets have been equally far ahead; `None` if the distance has
    /// just changed.
    pub(super) fn equally_far_since(
        &mut self,
        distance: Duration,
        now: Timestamp,
    ) -> Option<Timestamp> {
        let (previous, since) = self.distance;
        if distance.abs_diff(previous) > RESET_TOLERANCE {
            self.distance = (distance, now);
            return None;
        }
        Some(since)
    }

    /// Detects the meaning of an ambiguous reset. `full_refill_secs`: seconds until all units are
    /// back, if the refill was measured.
    pub(super) fn detect_meaning(
        &mut self,
        reset: Reset,
        full_refill_secs: Option<f64>,
        now: Timestamp,
    ) -> ResetMeaning {
        let is_due = self.at.is_none_or(|at| Self::is_due(at, now));
        self.unit_detector.observe(reset.value, is_due, now);
        if let Some(full_refill_secs) = full_refill_secs {
            self.unit_detector.compare_with_full_refill(reset.value, full_refill_secs);
        }
        self.unit_detector.detected.unwrap_or(reset.meaning)
    }

    /// Returns the meaning that was detected for an ambiguous reset.
    pub(super) fn detected_meaning(&self) -> Option<ResetMeaning> {
        self.unit_detector.detected
    }

    /// Returns the time at which the first guess at the unit is used.
    pub(super) fn detection_end(&self) -> Timestamp {
        self.unit_detector.started_at.after(UNIT_DETECTION_TIME)
    }

    /// Returns true while the unit of an ambiguous reset is being detected.
    pub(super) fn is_detecting_unit(&self, now: Timestamp) -> bool {
        self.unit_detector.detected.is_none()
            && now.since(self.unit_detector.started_at) < UNIT_DETECTION_TIME
    }

    /// Returns the rounding of the reset, which was last `advertised` like this: in whole seconds
    /// it may be up to one second early.
    pub(super) fn rounding(&self, advertised: Option<Reset>) -> Duration {
        let is_whole = advertised.is_none_or(|reset| reset.value.fract() == 0.0);
        let meaning = self.unit_detector.detected.or_else(|| advertised.map(|reset| reset.meaning));
        let in_millis =
            matches!(meaning, Some(ResetMeaning::DeltaMillis | ResetMeaning::EpochMillis));
        if is_whole && !in_millis { Duration::from_secs(1) } else { Duration::from_millis(50) }
    }
}
