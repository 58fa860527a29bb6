//! Adaptive rate limiter of one scope: uses what the server allows and is almost never throttled.
//!
//! A request passes these checks, in this order:
//!
//! - `byte_budget`: no requests while too many bytes were received in the last 24 hours;
//! - `block`: no requests until the time that the server named, or until the next delay of
//!   `throttle_backoff`; then one probe at a time until one succeeds;
//! - `pacer`: even spacing, because synchronised bursts cause throttles;
//! - `limits`: the units left of each limit that the server advertises;
//! - `window_usage`: the units that the server may still count, if it locks a client out for one
//!   too many.
//!
//! The rate is the lowest of the cap, the limits and the `estimator`. While headers give the rate,
//! the estimator is inactive, until a throttle shows that the headers are incomplete.

mod activity;
mod block;
mod byte_budget;
mod estimator;
mod headers;
mod limits;
mod lock_out;
mod pacer;
mod persist;
mod policy;
#[cfg(test)]
mod proptests;
mod rate;
mod reported_limits;
mod request;
mod response_context;
mod route;
mod spent_window;
mod state;
mod status;
mod structured;
#[cfg(test)]
mod tests;
mod throttle_backoff;
mod tracked_limit;
mod window_usage;

use std::time::Duration;

use crate::backoff::{doubled_delay, retry_after_with_margin};
use crate::{RandomSample, Timestamp};

use self::activity::Activity;
use self::block::{BlockStatus, BlockTracker};
use self::byte_budget::ByteBudget;
use self::estimator::RateEstimator;
use self::limits::TrackedLimits;
use self::pacer::Pacer;
use self::response_context::ResponseContext;
use self::throttle_backoff::ThrottleBackoff;
use self::window_usage::{HardLimit, WindowUsage};

pub use self::block::{Block, BlockReason};
pub use self::estimator::RateEstimatorState;
pub use self::headers::{HeaderNames, parse_headers, redact_headers};
pub use self::lock_out::LOCK_OUT_WAIT_MAX;
pub use self::policy::{RateLimitMode, RateLimitPolicy};
pub use self::rate::{Rate, RateError};
pub use self::reported_limits::{
    AdvertisedLimit, HeaderDialect, ReportedLimits, Reset, ResetMeaning,
};
pub use self::request::{
    RateLimitResponse, RequestToken, ResponseOutcome, SendDecision, WaitReason,
};
pub use self::route::{RouteCost, find_route};
pub use self::state::{BlockState, LimitState, LockOutState, RateLimiterState};
pub use self::status::{RateLimitStatus, RateSource};

/// Waiting for a reset this near counts as pacing, not as a block.
const SHORT_RESET: Duration = Duration::from_secs(5);

/// Longest time from a request to its response, because requests are given up earlier. It is only
/// exceeded if the machine was suspended.
const RESPONSE_TIME_MAX: Duration = Duration::from_secs(600);

/// Factor by which requests are sent faster than a hard limit allows, while the window usage is
/// fully known. It makes up for the time that responses travel.
const CATCH_UP_FACTOR: f64 = 1.1;

/// Rate limiter of one scope: a host and a credential.
#[derive(Clone, Debug, PartialEq)]
pub struct RateLimiter {
    policy: RateLimitPolicy,
    block: BlockTracker,
    pacer: Pacer,
    backoff: ThrottleBackoff,
    estimator: RateEstimator,
    limits: TrackedLimits,
    window_usage: WindowUsage,
    /// Limits restored from the persisted state, used until a response advertises limits.
    restored_limits: Vec<AdvertisedLimit>,
    /// Last rate derived from headers.
    advertised_rate: Option<Rate>,
    units: UnitCounts,
    byte_budget: ByteBudget,
    activity: Activity,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct UnitCounts {
    /// Units of the requests in flight.
    in_flight: u64,
    /// Units accepted since the start.
    accepted: f64,
}

impl RateLimiter {
    #[must_use]
    pub fn new(policy: RateLimitPolicy, now: Timestamp) -> Self {
        let estimator = RateEstimator::new(policy.slow_start_rate, now);
        Self {
            policy,
            block: BlockTracker::default(),
            pacer: Pacer::default(),
            backoff: ThrottleBackoff::default(),
            estimator,
            limits: TrackedLimits::default(),
            window_usage: WindowUsage::default(),
            restored_limits: Vec::new(),
            advertised_rate: None,
            units: UnitCounts::default(),
            byte_budget: ByteBudget::default(),
            activity: Activity::new(now),
        }
    }

    /// Decides about a request that costs `weight` units.
    pub fn admit(&mut self, weight: u32, now: Timestamp) -> SendDecision {
        self.sync_clock(now);
        if let Some(block) = self.byte_block(now) {
            // The server limits nothing meanwhile, so that this wait counts as idle time.
            let until = self.block.block().map_or(block.until, |own| own.until.max(block.until));
            return SendDecision::Wait { until, reason: WaitReason::Blocked };
        }
        self.exclude_idle_time(self.estimator.idle_threshold(), now);
        let decision = self.decide(weight, now);
        self.activity.active_until = match decision {
            SendDecision::Admitted(_) => now,
            SendDecision::Wait { until, .. } => until,
        };
        decision
    }

    fn decide(&mut self, weight: u32, now: Timestamp) -> SendDecision {
        match self.block.status(now) {
            BlockStatus::Unblocked => {}
            BlockStatus::Blocked(until) => {
                self.activity.waiting_since.get_or_insert(now);
                return SendDecision::Wait { until, reason: WaitReason::Blocked };
            }
            BlockStatus::Probing(until) => {
                return SendDecision::Wait { until, reason: WaitReason::Probing };
            }
        }
        if let Some(until) = self.try_spend(weight, now) {
            self.estimator.record_paced();
            self.activity.waiting_since.get_or_insert(now);
            return SendDecision::Wait { until, reason: WaitReason::Pacing };
        }
        self.activity.waiting_since = None;
        self.estimator.record_sent(now);
        self.block.record_sent(now);
        self.units.in_flight += u64::from(weight);
        SendDecision::Admitted(RequestToken {
            sent_at: now,
            weight,
            generation: self.block.generation,
        })
    }

    /// Records the response to a request. Returns the block if it is new or was extended.
    pub fn record_response(
        &mut self,
        token: RequestToken,
        response: &RateLimitResponse<'_>,
        now: Timestamp,
        sample: RandomSample,
    ) -> Option<Block> {
        self.sync_clock(now);
        self.exclude_idle_time(RESPONSE_TIME_MAX, now);
        self.units.in_flight = self.units.in_flight.saturating_sub(u64::from(token.weight));
        if response.outcome == ResponseOutcome::Accepted {
            self.units.accepted += f64::from(token.weight);
        }
        self.update_limits(token, response, now);
        match response.outcome {
            ResponseOutcome::Accepted => self.record_success(token, now),
            ResponseOutcome::Failed => self.block.record_inconclusive_probe(token.generation),
            ResponseOutcome::Throttled => {}
        }
        if response.outcome != ResponseOutcome::Throttled {
            self.record_counted(token, now);
        }
        let block = self.block_for(token, response, now, sample)?;
        self.block.extend_block(block.clone()).then_some(block)
    }

    /// Records a request without a response: the connection failed, or the request was cancelled.
    pub fn record_cancelled(&mut self, token: RequestToken, now: Timestamp) {
        self.units.in_flight = self.units.in_flight.saturating_sub(u64::from(token.weight));
        self.record_counted(token, now);
        self.block.record_inconclusive_probe(token.generation);
    }

    /// Records received bytes of documents, which count for `bytes_per_day` of the policy. Returns
    /// false if they do not count, because it is not set.
    pub fn record_bytes(&mut self, bytes: u64, now: Timestamp) -> bool {
        self.sync_clock(now);
        self.backoff.lock_outs.record_received(now);
        let is_counted = self.policy.bytes_per_day.is_some();
        if is_counted {
            self.byte_budget.record(bytes, now);
        }
        is_counted
    }

    /// Returns the block in force that a response caused.
    #[must_use]
    pub fn current_block(&self, now: Timestamp) -> Option<&Block> {
        self.block.block().filter(|block| now < block.until)
    }

    /// Returns the rate in force, or `None` if requests are not paced.
    #[must_use]
    pub fn current_rate(&self, now: Timestamp) -> Option<Rate> {
        self.rate_with_source(now).map(|(rate, _)| rate)
    }

    /// Returns the status for display and metrics.
    #[must_use]
    pub fn status(&self, now: Timestamp) -> RateLimitStatus {
        let restored_rate =
            self.advertised_rate.filter(|_| self.limits.iter_last_read().next().is_none());
        let restored_rate = restored_rate.filter(|_| !self.restored_limits.is_empty());
        let (rate, source) = match (self.rate_with_source(now), restored_rate) {
            (Some((rate, RateSource::SlowStart)), Some(advertised)) => {
                (Some(rate.min(advertised)), RateSource::Headers)
            }
            (Some((rate, source)), _) => (Some(rate), source),
            (None, _) => (None, RateSource::Unlimited),
        };
        RateLimitStatus {
            mode: self.policy.mode,
            block: [self.block.block().cloned(), self.byte_block(now)]
                .into_iter()
                .flatten()
                .max_by_key(|block| block.until),
            limits: self.known_limits(),
            rate,
            rate_source: source,
            estimated_rate: self.estimator.estimate,
            estimate_cycles: self.estimator.cycles,
            next_probe_at: self.estimator.probes.next_at,
        }
    }

    /// Returns the block because of `bytes_per_day`. It follows from the recorded bytes, so it ends
    /// without a probe.
    fn byte_block(&self, now: Timestamp) -> Option<Block> {
        let bytes_per_day = self.policy.bytes_per_day?;
        let until = self.byte_budget.wait_until(bytes_per_day, now)?;
        let received = self.byte_budget.received(now);
        let reason = BlockReason::DailyBytes { received, bytes_per_day };
        Some(Block { until, reason, exceeds_max_wait: false })
    }

    fn known_limits(&self) -> Vec<AdvertisedLimit> {
        let read: Vec<AdvertisedLimit> = self.limits.iter_last_read().cloned().collect();
        if read.is_empty() { self.restored_limits.clone() } else { read }
    }

    /// Spends the units of a request, or returns the time until which it must wait.
    fn try_spend(&mut self, weight: u32, now: Timestamp) -> Option<Timestamp> {
        let is_adaptive = self.policy.mode == RateLimitMode::Adaptive;
        if is_adaptive {
            self.limits.advance(f64::from(weight), now);
        }
        let rate = self.rate_with_source(now);
        if let Some(until) = rate.and_then(|(_, source)| self.pacing_until(source, now)) {
            return Some(until);
        }
        let hard_limit = rate.and_then(|(rate, source)| self.hard_limit(rate, source));
        if is_adaptive {
            if let Some(until) = self.wait_for_remaining(weight, hard_limit, now) {
                return Some(until);
            }
            self.limits.spend(f64::from(weight));
        }
        if let Some((rate, _)) = rate {
            self.pacer.spend(weight, self.spacing_rate(rate, hard_limit, now), now);
        }
        None
    }

    /// Returns the time until which pacing delays a request. Together with a block before it, the
    /// wait is cut to `max_wait`.
    fn pacing_until(&self, source: RateSource, now: Timestamp) -> Option<Timestamp> {
        let due = self.pacer.wait_until(now)?;
        let until = match source {
            // A wait for the user's cap is never cut.
            RateSource::Cap => due,
            RateSource::Unlimited
            | RateSource::Headers
            | RateSource::SlowStart
            | RateSource::Estimated
            | RateSource::Probe => due.min(self.wait_cap(now)),
        };
        (until > now).then_some(until)
    }

    /// Returns the time until which too few units remain. At `wait_cap` the request is sent anyway.
    fn wait_for_remaining(
        &self,
        weight: u32,
        hard_limit: Option<HardLimit>,
        now: Timestamp,
    ) -> Option<Timestamp> {
        let units = f64::from(weight);
        let limits_until = self.limits.wait_until(units, self.units.in_flight, now);
        let usage_wait =
            |limit| self.window_usage.wait_until(limit, units, self.units_in_flight(), now);
        let window_until = hard_limit.and_then(usage_wait);
        let until = limits_until.max(window_until)?.min(self.wait_cap(now));
        (until > now).then_some(until)
    }

    /// Returns the limit that must not be exceeded by one unit, if the estimator sets the rate.
    fn hard_limit(&self, rate: Rate, source: RateSource) -> Option<HardLimit> {
        let window = match source {
            RateSource::Estimated | RateSource::Probe => self.estimator.hard_limit_window()?,
            RateSource::Unlimited
            | RateSource::Cap
            | RateSource::Headers
            | RateSource::SlowStart => return None,
        };
        // The rounding error of the rate must not cost a whole unit.
        let units = (rate.get() * window.as_secs_f64() + 1e-6).floor().max(1.0);
        Some(HardLimit { units, window })
    }

    fn spacing_rate(&self, rate: Rate, hard_limit: Option<HardLimit>, now: Timestamp) -> Rate {
        match hard_limit {
            Some(limit) if self.window_usage.is_complete(limit.window, now) => {
                rate.scaled(CATCH_UP_FACTOR)
            }
            Some(limit) => rate.scaled(estimator::safety_factor(limit.window)),
            None => rate,
        }
    }

    /// Records the units of a request, which the server has certainly counted by now.
    fn record_counted(&mut self, token: RequestToken, now: Timestamp) {
        if let Some(window) = self.estimator.limit.window {
            self.window_usage.record(f64::from(token.weight), window, now);
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "units in flight are few")]
    fn units_in_flight(&self) -> f64 {
        self.units.in_flight as f64
    }

    /// Returns the latest time until which a request may wait without an instruction of the server.
    fn wait_cap(&self, now: Timestamp) -> Timestamp {
        self.activity.waiting_since.unwrap_or(now).after(self.policy.max_wait)
    }

    /// Returns the rate in force, which is the lowest that applies, and its source.
    fn rate_with_source(&self, now: Timestamp) -> Option<(Rate, RateSource)> {
        let cap = self.policy.cap.map(|cap| (cap, RateSource::Cap));
        match self.policy.mode {
            RateLimitMode::Off => None,
            RateLimitMode::Fixed => cap,
            RateLimitMode::Adaptive => {
                let slowest = Rate::from_units(1.0, self.policy.max_wait);
                let advertised = self.limits.rate(self.policy.reserve, now);
                let advertised = advertised.map(|rate| (rate.max(slowest), RateSource::Headers));
                let estimated = self.estimator.rate().map(|rate| {
                    let factor = if advertised.is_none() { 1.0 - self.policy.reserve } else { 1.0 };
                    (rate.scaled(factor).max(slowest), self.estimator.rate_source())
                });
                let slower =
                    |a: (Rate, RateSource), b: (Rate, RateSource)| if b.0 < a.0 { b } else { a };
                [cap, advertised, estimated].into_iter().flatten().reduce(slower)
            }
        }
    }

    fn update_limits(
        &mut self,
        token: RequestToken,
        response: &RateLimitResponse<'_>,
        now: Timestamp,
    ) {
        if response.reported.is_cached {
            return;
        }
        let context = ResponseContext {
            sent_at: token.sent_at,
            in_flight: self.units_in_flight(),
            accepted_units: self.units.accepted,
            is_accepted: response.outcome == ResponseOutcome::Accepted,
            reserve: self.policy.reserve,
            now,
        };
        self.limits.update(&response.reported.limits, &context);
        match self.limits.rate(self.policy.reserve, now) {
            Some(rate) => {
                self.advertised_rate = Some(rate);
                self.estimator.deactivate();
            }
            // The last advertised rate applies while headers are missing, not if they proved
            // useless.
            None if response.reported.limits.is_empty() => {
                self.estimator.activate(self.advertised_rate);
            }
            None => self.estimator.activate(None),
        }
    }

    fn record_success(&mut self, token: RequestToken, now: Timestamp) {
        self.window_usage.record_latency(now.since(token.sent_at));
        if token.generation == self.block.generation {
            self.backoff.record_success();
            let retry_after = self.block.block().and_then(Block::retry_after);
            if self.block.block().is_some() {
                self.estimator.record_recovery(retry_after, now);
                // The probe was sent at a rate that no longer applies.
                if let Some((rate, _)) = self.rate_with_source(now) {
                    self.pacer.restart(rate, now);
                }
            }
            self.block.record_success(token.generation);
        }
        self.estimator.record_accepted(f64::from(token.weight), now);
    }

    /// Returns the block that a response causes, by the first reason that applies.
    fn block_for(
        &mut self,
        token: RequestToken,
        response: &RateLimitResponse<'_>,
        now: Timestamp,
        sample: RandomSample,
    ) -> Option<Block> {
        let reported = response.reported;
        let is_throttled = response.outcome == ResponseOutcome::Throttled;
        let is_accepted = response.outcome == ResponseOutcome::Accepted;
        let is_current = token.generation == self.block.generation;
        let exhausted = self.limits.exhausted_until(reported, is_throttled, now);
        let is_learned = exhausted.is_none() && reported.lock_out_wait.is_none();
        if is_throttled && is_current && is_learned && self.policy.mode == RateLimitMode::Adaptive {
            self.estimator.record_throttled(now);
        }
        if let Some(wait) = reported.retry_after.filter(|_| !is_accepted) {
            let until = now.after(retry_after_with_margin(wait, sample));
            let exceeds_max_wait = wait > self.policy.max_wait;
            return Some(Block { until, reason: BlockReason::RetryAfter(wait), exceeds_max_wait });
        }
        if let Some((reset_at, dialect)) = exhausted {
            let wait = reset_at.since(now);
            if is_throttled || wait >= SHORT_RESET {
                let until =
                    now.after(retry_after_with_margin(wait.min(self.policy.max_wait), sample));
                let exceeds_max_wait = wait > self.policy.max_wait;
                let reason = BlockReason::Exhausted { reset_at, dialect };
                return Some(Block { until, reason, exceeds_max_wait });
            }
        }
        (is_throttled && is_current).then(|| match reported.lock_out_wait {
            Some(first) => {
                self.estimator.restart_cycle(now);
                self.backoff.lock_outs.next_block(first, &self.policy, now, sample)
            }
            None => self.block_without_time(now, sample),
        })
    }

    /// Returns the block after a throttle that names no time.
    fn block_without_time(&mut self, now: Timestamp, sample: RandomSample) -> Block {
        let longest = self.policy.max_block();
        let doublings = self.backoff.attempts.min(16);
        let window_end = self.estimator.window_end(now).filter(|_| doublings == 0);
        let delay = self.backoff.next_delay(longest, now, sample);
        let until = match (self.policy.configured_block(), window_end) {
            (Some(initial), _) => now.after(doubled_delay(initial, doublings, longest)),
            (None, Some(end)) => {
                now.after(retry_after_with_margin(end.since(now).min(longest), sample))
            }
            (None, None) => now.after(delay),
        };
        let reason = BlockReason::NoTimeGiven { throttles: self.backoff.attempts };
        Block { until, reason, exceeds_max_wait: until.since(now) > self.policy.max_wait }
    }
}
