//! All limits that a server advertises. The tightest one applies.

use crate::rate_limit::rate::Rate;
use crate::rate_limit::reported_limits::{AdvertisedLimit, HeaderDialect, ReportedLimits};
use crate::rate_limit::response_context::ResponseContext;
use crate::rate_limit::tracked_limit::TrackedLimit;
use crate::{ClockStep, Timestamp};

/// Maximum number of tracked limits. Beyond it, the first one is dropped.
const TRACKED_MAX: usize = 16;

#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct TrackedLimits {
    limits: Vec<TrackedLimit>,
}

impl TrackedLimits {
    /// Updates the limits from one response.
    pub(super) fn update(&mut self, limits: &[AdvertisedLimit], context: &ResponseContext) {
        for limit in limits {
            if let Some(tracked) = self.limits.iter_mut().find(|tracked| tracked.matches(limit)) {
                tracked.update(limit, context);
                continue;
            }
            if self.limits.len() == TRACKED_MAX {
                self.limits.remove(0);
            }
            self.limits.push(TrackedLimit::new(limit, context));
        }
    }

    pub(super) fn advance(&mut self, weight: f64, now: Timestamp) {
        for tracked in &mut self.limits {
            tracked.advance(weight, now);
        }
    }

    /// Shifts all times by a clock step.
    pub(super) fn shift_by(&mut self, step: ClockStep) {
        for tracked in &mut self.limits {
            tracked.shift_by(step);
        }
    }

    /// Excludes an idle time from the measurements.
    pub(super) fn exclude_idle(&mut self) {
        for tracked in &mut self.limits {
            tracked.exclude_idle();
        }
    }

    pub(super) fn spend(&mut self, units: f64) {
        for tracked in &mut self.limits {
            tracked.spend(units);
        }
    }

    /// Returns the rate of the tightest limit that gives one.
    pub(super) fn rate(&self, reserve: f64, now: Timestamp) -> Option<Rate> {
        self.limits.iter().filter_map(|tracked| tracked.rate(reserve, now)).reduce(Rate::min)
    }

    /// Returns the time until which a request of `weight` must wait for any limit.
    pub(super) fn wait_until(
        &self,
        weight: f64,
        in_flight: u64,
        now: Timestamp,
    ) -> Option<Timestamp> {
        self.limits.iter().filter_map(|tracked| tracked.wait_until(weight, in_flight, now)).max()
    }

    /// Returns the latest reset of the limits that this response reports as exhausted.
    ///
    /// A limit with continuous refill is skipped unless the request was throttled, because it is
    /// never empty for long.
    pub(super) fn exhausted_until(
        &self,
        reported: &ReportedLimits,
        is_throttled: bool,
        now: Timestamp,
    ) -> Option<(Timestamp, HeaderDialect)> {
        let limits = if reported.is_cached { &[][..] } else { &reported.limits[..] };
        limits
            .iter()
            .filter(|limit| limit.remaining == Some(0.0))
            .filter_map(|limit| self.limits.iter().find(|tracked| tracked.matches(limit)))
            .filter(|tracked| is_throttled || !tracked.is_continuous())
            .filter_map(|tracked| Some((tracked.exhausted_until(now)?, tracked.limit.dialect)))
            .max()
    }

    /// Returns the limits as last read.
    pub(super) fn iter_last_read(&self) -> impl Iterator<Item = &AdvertisedLimit> {
        self.limits.iter().map(|tracked| &tracked.limit)
    }
}
