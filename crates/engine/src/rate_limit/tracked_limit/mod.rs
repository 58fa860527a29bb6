//! One advertised limit, tracked from response to response.

mod bucket_level;
mod continuous;
mod refill;
mod reset;
mod reset_unit;
mod unit_balance;

use std::time::Duration;

use crate::rate_limit::rate::Rate;
use crate::rate_limit::reported_limits::{AdvertisedLimit, RESET_DELAY_MAX};
use crate::rate_limit::response_context::ResponseContext;
use crate::rate_limit::spent_window::SpentWindow;
use crate::{ClockStep, Timestamp};

use self::refill::RefillRate;
use self::reset::TrackedReset;
use self::unit_balance::UnitBalance;

/// Factor over the even rate at which the units of an unused window may be spent.
const CATCH_UP_FACTOR: f64 = 4.0;

/// Delay of the next request if the one after a reset reveals nothing.
const RESET_PROBE_INTERVAL: Duration = Duration::from_secs(2);

/// Maximum units spent without any refill although the reset moved. Beyond it, the reset does not
/// mean the next unit.
const UNITS_WITHOUT_REFILL_MAX: f64 = 5.0;

/// Consecutive contradictory responses after which a limit is ignored.
const CONTRADICTIONS_MAX: u32 = 2;

/// Maximum length of a short window, which is treated as a rate: its reset in whole seconds says
/// nothing.
const SHORT_WINDOW_MAX: Duration = Duration::from_secs(5);

/// Renewal of a limit: all at once or continuously.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum RenewalKind {
    /// Not observed for long enough. Treated as a fixed window.
    Unknown,
    /// All at once: the reset stays the same, then the remaining units jump back.
    FixedWindow,
    /// Continuous refill, as in sliding logs and token buckets.
    Continuous,
}

/// One limit and its observed behaviour.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct TrackedLimit {
    /// Limit as last read.
    pub(super) limit: AdvertisedLimit,
    pub(super) renewal: RenewalKind,
    /// Window, advertised or inferred from observed resets.
    window: Option<Duration>,
    /// Send time of the newest request whose response was read.
    newest_sent_at: Timestamp,
    balance: UnitBalance,
    reset: TrackedReset,
    /// Measured refill of a limit with continuous refill.
    refill: RefillRate,
    spent_window: SpentWindow,
    /// Units accepted since the start, as far as they are in `spent_window`.
    accepted_units: f64,
    contradictions: u32,
}

impl TrackedLimit {
    pub(super) fn new(limit: &AdvertisedLimit, context: &ResponseContext) -> Self {
        let mut tracked = Self {
            limit: limit.clone(),
            renewal: RenewalKind::Unknown,
            window: limit.window,
            newest_sent_at: context.sent_at,
            balance: UnitBalance::new(context.now),
            reset: TrackedReset::new(limit, context.now),
            refill: RefillRate::new(limit.remaining.unwrap_or(0.0), context),
            spent_window: SpentWindow::default(),
            accepted_units: 0.0,
            contradictions: 0,
        };
        tracked.update(limit, context);
        tracked
    }

    pub(super) fn matches(&self, limit: &AdvertisedLimit) -> bool {
        self.limit.dialect == limit.dialect
            && self.limit.name == limit.name
            && self.limit.partition == limit.partition
    }

    /// Updates the limit from a later response. A response older than the newest one changes only
    /// the units spent.
    pub(super) fn update(&mut self, limit: &AdvertisedLimit, context: &ResponseContext) {
        self.record_spent(limit, context);
        if context.sent_at < self.newest_sent_at {
            return;
        }
        self.newest_sent_at = context.sent_at;
        self.balance.record_read(context.now);
        self.window = limit.window.or(self.window);
        self.check_consistency(limit, context);
        self.update_reset(limit, context);
        if let Some(quota) = limit.quota {
            self.balance.capacity = quota * (1.0 - context.reserve);
        }
        if let Some(remaining) = limit.remaining {
            let reserved = limit.quota.unwrap_or(0.0) * context.reserve;
            self.balance.available = remaining - reserved - context.in_flight;
            let may_be_continuous = self.renewal != RenewalKind::FixedWindow;
            self.refill.measure(remaining, limit.quota, may_be_continuous, context);
            if let Some(rate) = self.refill_rate() {
                self.balance.update_level(rate, context);
            }
        }
        self.limit.clone_from(limit);
    }

    /// Excludes an idle time: units that came back meanwhile say little about the refill rate.
    pub(super) fn exclude_idle(&mut self) {
        self.refill.exclude_idle();
    }

    /// Shifts the times of the units spent by a clock step, so that their age stays the same.
    pub(super) fn shift_by(&mut self, step: ClockStep) {
        self.spent_window.shift_by(step);
    }

    /// Records that units are sent.
    pub(super) fn spend(&mut self, units: f64) {
        self.balance.spend(units);
    }

    /// Returns the rate that this limit allows at `now`, or `None` if it does not say enough.
    pub(super) fn rate(&self, reserve: f64, now: Timestamp) -> Option<Rate> {
        if !self.counts_requests() || self.contradictions >= CONTRADICTIONS_MAX {
            return None;
        }
        let quota = self.limit.quota.map(|quota| quota * (1.0 - reserve));
        let even_rate =
            quota.zip(self.window).map(|(quota, window)| Rate::from_units(quota, window));
        if let Some(rate) = self.continuous_rate(even_rate, now) {
            return Some(rate);
        }
        let until_reset =
            self.reset.at.filter(|at| *at > now).map(|_| self.reset.earliest_at.since(now));
        let (Some(until_reset), false) = (until_reset, self.balance.available.is_infinite()) else {
            return even_rate;
        };
        if self.is_reset_unit_unknown(now) {
            return even_rate;
        }
        let rate = Rate::from_units(
            (self.balance.available + 0.5).max(0.01),
            until_reset.max(Duration::from_millis(500)),
        );
        Some(even_rate.map_or(rate, |even_rate| rate.min(even_rate.scaled(CATCH_UP_FACTOR))))
    }

    /// Returns the time until which a request of `weight` must wait because too few units remain.
    pub(super) fn wait_until(
        &self,
        weight: f64,
        in_flight: u64,
        now: Timestamp,
    ) -> Option<Timestamp> {
        if !self.counts_requests() || self.contradictions >= CONTRADICTIONS_MAX {
            return None;
        }
        let weight = weight.min(self.balance.capacity);
        if self.is_continuous() {
            return self.continuous_wait_until(weight, in_flight, now);
        }
        let until = self.reset.at?.after(self.reset_rounding());
        if self.balance.available >= weight || now >= until {
            return None;
        }
        let detection_end = self.reset.detection_end();
        Some(if self.is_reset_unit_unknown(now) { until.min(detection_end) } else { until })
    }

    /// Starts a new window when the reset has passed without a response.
    ///
    /// If the size of the new window is not certain, one request of `weight` finds out.
    pub(super) fn advance(&mut self, weight: f64, now: Timestamp) {
        let Some(reset_at) = self.reset.at else { return };
        if self.is_continuous() || now < reset_at.after(self.reset_rounding()) {
            return;
        }
        let next = match self.window {
            Some(window)
                if self.balance.capacity.is_finite()
                    && self.renewal == RenewalKind::FixedWindow =>
            {
                self.balance.available = self.balance.capacity;
                // A window may have passed unused; its end still lies on the same grid.
                let overdue_millis = now.since(reset_at).as_millis();
                let windows_passed =
                    u32::try_from(overdue_millis / window.as_millis().max(1)).unwrap_or(u32::MAX);
                reset_at.after(window.saturating_mul(windows_passed.saturating_add(1)))
            }
            Some(_) | None => {
                self.balance.available = weight;
                now.after(RESET_PROBE_INTERVAL)
            }
        };
        self.reset.advance_to(next);
    }

    /// Returns the reset if it lies ahead and nothing remains.
    pub(super) fn exhausted_until(&self, now: Timestamp) -> Option<Timestamp> {
        // A reset of unknown unit may be a thousand times too far away.
        let is_known = self.limit.reset.is_some_and(|reset| reset.is_certain)
            || self.reset.detected_meaning().is_some()
            || self.window.is_some();
        let is_used_up = self.limit.remaining == Some(0.0)
            && self.contradictions < CONTRADICTIONS_MAX
            && is_known;
        self.reset.at.filter(|at| is_used_up && *at > now)
    }

    /// Returns true if requests are counted. A limit on bytes or tokens says nothing about how many
    /// requests may be sent.
    fn counts_requests(&self) -> bool {
        self.limit.unit.as_deref().is_none_or(|unit| {
            unit.eq_ignore_ascii_case("request") || unit.eq_ignore_ascii_case("requests")
        })
    }

    /// Returns the rounding of the reset, within which it may be early.
    fn reset_rounding(&self) -> Duration {
        self.reset.rounding(self.limit.reset)
    }

    /// Detects contradictory headers: a success that leaves nothing although a window has just
    /// begun. Unless the window grants only one request, such headers are wrong.
    fn check_consistency(&mut self, limit: &AdvertisedLimit, context: &ResponseContext) {
        let was_used_up = self.limit.remaining == Some(0.0) && self.balance.available < 1.0;
        let is_used_up = limit.remaining == Some(0.0);
        let grants_one = limit.quota == Some(1.0);
        let is_past = limit.reset.is_some_and(|reset| reset.delay.is_zero());
        let contradicts = was_used_up && !grants_one && (is_past || !self.is_continuous());
        if !is_used_up || !context.is_accepted {
            self.contradictions = 0;
        } else if contradicts {
            self.contradictions = self.contradictions.saturating_add(1);
        }
    }

    /// Records the units accepted up to a response. Units accepted before the window was known
    /// count as new, as far as the server counts them.
    fn record_spent(&mut self, limit: &AdvertisedLimit, context: &ResponseContext) {
        self.spent_window.record_latency(context.now.since(context.sent_at));
        let Some(window) = self.window else { return };
        let counted = limit.quota.zip(limit.remaining).map(|(quota, remaining)| quota - remaining);
        let units =
            (context.accepted_units - self.accepted_units).min(counted.unwrap_or(f64::INFINITY));
        self.accepted_units = context.accepted_units;
        if units > 0.0 {
            self.spent_window.record(units, context.sent_at, context.now, window);
        }
    }

    fn update_reset(&mut self, limit: &AdvertisedLimit, context: &ResponseContext) {
        let Some(reset) = limit.reset else { return };
        let now = context.now;
        let meaning = if reset.is_certain {
            reset.meaning
        } else {
            let full_refill_secs = self.full_refill_secs();
            self.reset.detect_meaning(reset, full_refill_secs, now)
        };
        let delay = if meaning == reset.meaning {
            reset.delay
        } else {
            meaning.delay_from(reset.value, now)
        };
        if delay > RESET_DELAY_MAX {
            self.reset.at = None;
            return;
        }
        let seen = now.after(delay);
        let Some(known) = self.reset.at else {
            self.reset.set(seen, now);
            return;
        };
        if self.reset.agrees(known, seen) {
            if self.reset.is_stable(now) {
                self.renewal = RenewalKind::FixedWindow;
            }
            self.reset.confirm(known, seen);
            return;
        }
        let is_full = match (limit.remaining, limit.quota) {
            (Some(remaining), Some(quota)) => remaining + context.in_flight + 2.0 >= quota * 0.7,
            (Some(remaining), None) => remaining > self.balance.available,
            (None, _) => true,
        };
        let known = self.reset.last_reported(known);
        if TrackedReset::is_due(known, now) && is_full {
            if self.renewal != RenewalKind::Continuous {
                self.refill.reset();
                self.window = limit.window.or_else(|| {
                    Some(seen.since(known)).filter(|window| *window > SHORT_WINDOW_MAX)
                });
            }
        } else if seen > known {
            self.renewal = RenewalKind::Continuous;
            self.infer_window(delay, now);
        }
        self.reset.set(seen, now);
    }

    /// Infers the window if it is not advertised. A reset that is always equally far ahead names
    /// the time at which all units are back, which is one window away.
    fn infer_window(&mut self, delay: Duration, now: Timestamp) {
        let Some(since) = self.reset.equally_far_since(delay, now) else { return };
        let means_all_units = match self.limit.quota.zip(self.refill.rate()) {
            Some((quota, refill)) => {
                now.since(since) > delay && delay.as_secs_f64() * refill.get() > quota / 2.0
            }
            None => self.refill.units_without_refill >= UNITS_WITHOUT_REFILL_MAX,
        };
        if means_all_units && delay > SHORT_WINDOW_MAX && self.limit.window.is_none() {
            self.window = Some(delay);
        }
    }

    /// Returns the seconds until all units of a limit with continuous refill are back, if the
    /// refill was measured.
    fn full_refill_secs(&self) -> Option<f64> {
        let refill = self.refill.rate().filter(|_| self.renewal == RenewalKind::Continuous);
        self.limit.quota.zip(refill).map(|(quota, refill)| quota / refill.get())
    }

    fn is_reset_unit_unknown(&self, now: Timestamp) -> bool {
        self.limit.reset.is_some_and(|reset| !reset.is_certain)
            && self.window.is_none()
            && self.reset.is_detecting_unit(now)
    }
}
