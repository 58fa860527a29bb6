//! Limits with continuous refill: units come back one by one, as in sliding logs and token buckets.

use std::time::Duration;

use crate::Timestamp;
use crate::rate_limit::rate::Rate;
use crate::rate_limit::tracked_limit::{RenewalKind, SHORT_WINDOW_MAX, TrackedLimit};

/// Interval at which a limit is checked again while a response is in flight.
const RESPONSE_POLL_INTERVAL: Duration = Duration::from_millis(20);

impl TrackedLimit {
    pub(crate) fn is_continuous(&self) -> bool {
        self.renewal == RenewalKind::Continuous || self.has_short_window()
    }

    /// Returns true if the window is too short for a reset in whole seconds to mean anything.
    fn has_short_window(&self) -> bool {
        self.window.is_some_and(|window| window <= SHORT_WINDOW_MAX)
    }

    /// Returns the rate that keeps the remaining units near a small target: units left over are
    /// wasted.
    pub(super) fn continuous_rate(&self, even_rate: Option<Rate>, now: Timestamp) -> Option<Rate> {
        if !self.is_continuous() {
            return None;
        }
        let quota = self.limit.quota.unwrap_or(100.0);
        let target = if self.window.is_some() {
            // The units may run out, because our own usage shows when more will be back.
            0.0
        } else {
            // A client that runs out may be throttled. The remaining units vary by about the square
            // root of the quota.
            (quota * 0.02).max(0.4 * quota.sqrt()).max(1.0)
        };
        let refill = match (even_rate, self.refill.rate()) {
            (Some(even_rate), Some(measured)) if self.balance.available < 0.5 * target => {
                measured.min(even_rate).max(even_rate.scaled(0.1))
            }
            (Some(even_rate), _) => even_rate,
            (None, Some(measured)) => measured,
            (None, None) => return None,
        };
        let refilled = refill.get() * self.balance.age(now).as_secs_f64().min(1.0);
        let excess = 2.0 * (self.balance.available + refilled - target) / quota;
        // While most units remain, the measured refill is no more than what was spent.
        let max_factor =
            if even_rate.is_none() && self.balance.available > 0.5 * quota { 2.0 } else { 1.05 };
        Some(refill.scaled((1.0 + excess).clamp(0.3, max_factor)))
    }

    /// Returns the time until which too few units remain for `weight`.
    pub(super) fn continuous_wait_until(
        &self,
        weight: f64,
        in_flight: u64,
        now: Timestamp,
    ) -> Option<Timestamp> {
        if self.balance.available >= weight {
            return None;
        }
        let refill = self.refill_rate()?;
        let refilled = refill.get() * self.balance.age(now).as_secs_f64();
        let lacking = weight - (self.balance.available + refilled);
        let enough_at = if lacking > 1e-6 {
            now.after(Rate::per_second(refill.get() / lacking).interval())
        } else {
            now
        };
        if let Some(replenished_at) =
            self.window.and_then(|window| self.replenished_at(weight, in_flight, window, now))
        {
            return (replenished_at > now).then_some(replenished_at);
        }
        if in_flight > 0 && !self.has_short_window() {
            // The next response is more precise than the clock.
            return Some(enough_at.max(now.after(RESPONSE_POLL_INTERVAL)));
        }
        let is_used_up = self.limit.remaining.is_some_and(|remaining| remaining < weight);
        let reset_at = self.reset.at.filter(|_| is_used_up && !self.has_short_window());
        match reset_at.map(|at| at.after(self.reset_rounding())) {
            Some(at) if at > now => Some(at),
            // At the reset one unit is certainly back; only a response shows whether more are.
            Some(_) if self.balance.is_unspent() => None,
            Some(_) | None => (lacking > 1e-6).then_some(enough_at),
        }
    }

    /// Returns the time at which enough units for `weight` are back, of those used at the last
    /// response.
    ///
    /// In a sliding log, units come back as unevenly as they were spent: ours one window later. In
    /// a token bucket they come back evenly, as the balance estimates. Units used by others are
    /// back at the reset that the server names, whether this means the next unit or all of them.
    fn replenished_at(
        &self,
        weight: f64,
        in_flight: u64,
        window: Duration,
        now: Timestamp,
    ) -> Option<Timestamp> {
        let lacking = weight - self.balance.available;
        let reset_at = self.reset.at.map(|at| at.after(self.reset_rounding()));
        let own_expiry = self.spent_window.units_expired_at(lacking, window, self.balance.read_at);
        // A window that restarted meanwhile counts fewer units than we spent within one window.
        #[expect(clippy::cast_precision_loss, reason = "units in flight are few")]
        let room = self.balance.capacity - weight - in_flight as f64;
        let own_expiry = own_expiry
            .zip(self.spent_window.falls_to_at(room, window, now))
            .map(|(expired_at, room_at)| expired_at.max(room_at));
        let rate = self.refill_rate()?;
        let own_expiry =
            own_expiry.map(|at| at.max(self.balance.level_reaches_at(weight, rate, now)));
        reset_at
            .filter(|_| lacking <= weight && !self.has_short_window())
            .into_iter()
            .chain(own_expiry)
            .min()
    }

    pub(super) fn refill_rate(&self) -> Option<Rate> {
        let even_rate = self
            .limit
            .quota
            .zip(self.window)
            .map(|(quota, window)| Rate::from_units(quota, window));
        even_rate.or_else(|| self.refill.rate())
    }
}
