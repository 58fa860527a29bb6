//! Follows the quota of one scope: takes what the server allows, and is told "too many" almost never.
//!
//! A request passes, in this order:
//!
//! - the [gate]: closed until the moment a server named, or until the next step of the [ladder];
//!   then open for one request until one succeeds;
//! - the [pace]: evenly spaced, since bursts are what synchronised refusals are made of;
//! - what is left of each of the [limits] that the server describes;
//! - what it may still have [counted], where one request too many locks us out.
//!
//! The pace is the slowest that the cap, the limits and the [learn]er demand. Where headers tell the
//! rate, the learner sleeps until a refusal shows that they hide something.

mod block;
mod estimator;
mod headers;
#[cfg(test)]
mod idle_tests;
mod limit_headers;
mod limits;
#[cfg(test)]
mod multi_process_tests;
mod pacer;
mod persist;
mod policy;
#[cfg(test)]
mod proptests;
mod rate;
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

use crate::engine::backoff::retry_after_with_margin;
use crate::engine::{RandomSample, Timestamp};

use self::block::{BlockStatus, BlockTracker};
use self::estimator::RateEstimator;
use self::limits::TrackedLimits;
use self::pacer::Pacer;
use self::throttle_backoff::ThrottleBackoff;
use self::tracked_limit::ReplyContext;
use self::window_usage::{HardLimit, WindowUsage};

pub use self::block::{Block, BlockReason};
pub use self::estimator::RateEstimatorState;
pub use self::headers::{HeaderNames, parse_headers, redact_headers};
pub use self::limit_headers::{
    AdvertisedLimit, HeaderDialect, RateLimitHeaders, Reset, ResetMeaning,
};
pub use self::policy::{RateLimitMode, RateLimitPolicy};
pub use self::rate::{Rate, RateError};
pub use self::state::{BlockState, LimitState, RateLimiterState};
pub use self::status::{RateLimitStatus, RateSource};

/// Nothing remains for so short a time that waiting for it is only pacing.
const SHORT_RESET: Duration = Duration::from_secs(5);

/// No reply takes longer: a request is given up before. A machine that was suspended answers later.
const REPLY_TIME_MAX: Duration = Duration::from_secs(600);

/// Requests are so much closer than a strict limit has it while it is known what counts against it: what is
/// lost while replies travel is made up for.
const CATCH_UP_FACTOR: f64 = 1.1;

/// The quota of one scope: a host and a credential.
#[derive(Clone, Debug, PartialEq)]
pub struct RateLimiter {
    policy: RateLimitPolicy,
    block: BlockTracker,
    pacer: Pacer,
    backoff: ThrottleBackoff,
    estimator: RateEstimator,
    limits: TrackedLimits,
    window_usage: WindowUsage,
    /// The limits that were in force when this was written down, until a reply tells them anew.
    restored_limits: Vec<AdvertisedLimit>,
    /// Since when the next request waits for its turn.
    waiting_since: Option<Timestamp>,
    /// The last rate that followed from headers.
    advertised_rate: Option<Rate>,
    /// Units of requests that are out.
    in_flight: u64,
    /// Units accepted since the start.
    accepted_units: f64,
    /// When this was last asked or told something.
    last_seen_at: Timestamp,
    /// Up to here something ran: a request was sent or answered, or waited for a moment known to it.
    active_until: Timestamp,
}

/// The answer to a request that wants to be sent.
#[derive(Clone, Copy, Debug, PartialEq)]
#[must_use = "a request that was admitted must be sent or dropped"]
pub enum SendDecision {
    Admitted(RequestToken),
    /// `until` lies ahead; ask again then, or as soon as another request is answered.
    Wait {
        until: Timestamp,
        reason: WaitReason,
    },
}

/// Why a request is not sent yet.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum WaitReason {
    /// The gate is closed.
    Blocked,
    /// The hold is over and one request is out to prove it.
    Probing,
    Pacing,
}

/// What a request is known by while it is out.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RequestToken {
    sent_at: Timestamp,
    weight: u32,
    generation: u32,
}

/// What came back.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RateLimitReply<'a> {
    pub outcome: ReplyOutcome,
    pub headers: &'a RateLimitHeaders,
}

/// What a reply says of the rate.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ReplyOutcome {
    Accepted,
    /// "Too many", in whatever words.
    Throttled,
    /// A server error, or a reply cut short: nothing of the rate.
    Failed,
}

impl RateLimiter {
    #[must_use]
    pub fn new(policy: RateLimitPolicy, now: Timestamp) -> Self {
        Self {
            policy,
            block: BlockTracker::default(),
            pacer: Pacer::default(),
            backoff: ThrottleBackoff::default(),
            estimator: RateEstimator::new(now),
            limits: TrackedLimits::default(),
            window_usage: WindowUsage::default(),
            restored_limits: Vec::new(),
            waiting_since: None,
            advertised_rate: None,
            in_flight: 0,
            accepted_units: 0.0,
            last_seen_at: now,
            active_until: now,
        }
    }

    /// Asks to send a request that costs `weight` units.
    pub fn admit(&mut self, weight: u32, now: Timestamp) -> SendDecision {
        self.sync_clock(now);
        self.exclude_idle_time(self.estimator.idle_threshold(), now);
        let admission = self.decide(weight, now);
        self.active_until = match admission {
            SendDecision::Admitted(_) => now,
            SendDecision::Wait { until, .. } => until,
        };
        admission
    }

    fn decide(&mut self, weight: u32, now: Timestamp) -> SendDecision {
        match self.block.status(now) {
            BlockStatus::Open => {}
            BlockStatus::Blocked(until) => {
                self.waiting_since.get_or_insert(now);
                return SendDecision::Wait { until, reason: WaitReason::Blocked };
            }
            BlockStatus::Probing(until) => {
                return SendDecision::Wait { until, reason: WaitReason::Probing };
            }
        }
        if let Some(until) = self.try_spend(weight, now) {
            self.estimator.record_paced();
            self.waiting_since.get_or_insert(now);
            return SendDecision::Wait { until, reason: WaitReason::Pacing };
        }
        self.waiting_since = None;
        self.estimator.record_sent(now);
        self.block.record_sent(now);
        self.in_flight += u64::from(weight);
        SendDecision::Admitted(RequestToken {
            sent_at: now,
            weight,
            generation: self.block.generation,
        })
    }

    /// Notes the reply to a request. Returns the hold if it closed the gate, or moved it later.
    pub fn record_reply(
        &mut self,
        ticket: RequestToken,
        reply: &RateLimitReply<'_>,
        now: Timestamp,
        draw: RandomSample,
    ) -> Option<Block> {
        self.sync_clock(now);
        self.exclude_idle_time(REPLY_TIME_MAX, now);
        self.in_flight = self.in_flight.saturating_sub(u64::from(ticket.weight));
        let is_accepted = reply.outcome == ReplyOutcome::Accepted;
        if is_accepted {
            self.accepted_units += f64::from(ticket.weight);
        }
        self.read_limits(ticket, reply, now);
        match reply.outcome {
            ReplyOutcome::Accepted => self.record_success(ticket, now),
            ReplyOutcome::Failed => self.block.probe_inconclusive(ticket.generation),
            ReplyOutcome::Throttled => {}
        }
        if reply.outcome != ReplyOutcome::Throttled {
            self.record_counted(ticket, now);
        }
        let hold = self.block_for(ticket, reply, now, draw)?;
        self.block.extend_block(hold.clone()).then_some(hold)
    }

    /// Notes that a request is never answered: the connection failed, or it was cancelled.
    pub fn record_cancelled(&mut self, ticket: RequestToken, now: Timestamp) {
        self.in_flight = self.in_flight.saturating_sub(u64::from(ticket.weight));
        self.record_counted(ticket, now);
        self.block.probe_inconclusive(ticket.generation);
    }

    /// Returns the hold in force.
    #[must_use]
    pub fn current_block(&self, now: Timestamp) -> Option<&Block> {
        self.block.block().filter(|hold| now < hold.until)
    }

    /// Returns the rate in force; none where nothing is paced.
    #[must_use]
    pub fn current_rate(&self, now: Timestamp) -> Option<Rate> {
        self.rate_with_source(now).map(|(rate, _)| rate)
    }

    /// Returns what was understood.
    #[must_use]
    pub fn status(&self, now: Timestamp) -> RateLimitStatus {
        let recalled =
            self.advertised_rate.filter(|_| self.limits.iter_last_read().next().is_none());
        let recalled = recalled.filter(|_| !self.restored_limits.is_empty());
        let (rate, basis) = match (self.rate_with_source(now), recalled) {
            (Some((rate, RateSource::SlowStart)), Some(told)) => {
                (Some(rate.min(told)), RateSource::Headers)
            }
            (Some((rate, basis)), _) => (Some(rate), basis),
            (None, _) => (None, RateSource::Unlimited),
        };
        RateLimitStatus {
            mode: self.policy.mode,
            block: self.block.block().cloned(),
            limits: self.known_limits(),
            rate,
            rate_source: basis,
            estimated_rate: self.estimator.estimate,
            estimate_cycles: self.estimator.cycles,
            next_probe_at: self.estimator.next_probe_at,
        }
    }

    fn known_limits(&self) -> Vec<AdvertisedLimit> {
        let read: Vec<AdvertisedLimit> = self.limits.iter_last_read().cloned().collect();
        if read.is_empty() { self.restored_limits.clone() } else { read }
    }

    /// Spends the units of a request that may go, or returns until when it may not.
    fn try_spend(&mut self, weight: u32, now: Timestamp) -> Option<Timestamp> {
        let follows = self.policy.mode == RateLimitMode::Adaptive;
        if follows {
            self.limits.advance(f64::from(weight), now);
        }
        let rate = self.rate_with_source(now);
        if let Some(until) = rate.and_then(|(_, basis)| self.pacing_until(basis, now)) {
            return Some(until);
        }
        let strict = rate.and_then(|(rate, basis)| self.hard_limit(rate, basis));
        if follows {
            if let Some(until) = self.wait_for_remaining(weight, strict, now) {
                return Some(until);
            }
            self.limits.spend(f64::from(weight));
        }
        if let Some((rate, _)) = rate {
            self.pacer.spend(weight, self.spacing_rate(rate, strict, now), now);
        }
        None
    }

    /// Returns when it is a request's turn, if not now. A hold before it counts towards the wait.
    fn pacing_until(&self, basis: RateSource, now: Timestamp) -> Option<Timestamp> {
        let due = self.pacer.wait_until(now)?;
        let until = match basis {
            // What a person wants is never too long.
            RateSource::Cap => due,
            RateSource::Unlimited
            | RateSource::Headers
            | RateSource::SlowStart
            | RateSource::Learned
            | RateSource::Probe => due.min(self.wait_cap(now)),
        };
        (until > now).then_some(until)
    }

    /// Returns until when too little is left, but no longer than a wait may be: then a try finds out.
    fn wait_for_remaining(
        &self,
        weight: u32,
        strict: Option<HardLimit>,
        now: Timestamp,
    ) -> Option<Timestamp> {
        let units = f64::from(weight);
        let left = self.limits.wait_until(units, self.in_flight, now);
        let counted =
            |limit| self.window_usage.wait_until(limit, units, self.units_in_flight(), now);
        let counted = strict.and_then(counted);
        let until = left.max(counted)?.min(self.wait_cap(now));
        (until > now).then_some(until)
    }

    /// Returns the limit that must not be exceeded by one unit, if what is learned sets the rate.
    fn hard_limit(&self, rate: Rate, basis: RateSource) -> Option<HardLimit> {
        let window = match basis {
            RateSource::Learned | RateSource::Probe => self.estimator.hard_limit_window()?,
            RateSource::Unlimited
            | RateSource::Cap
            | RateSource::Headers
            | RateSource::SlowStart => return None,
        };
        // The division that made the rate may have taken a little off the last unit.
        let units = (rate.get() * window.as_secs_f64() + 1e-6).floor().max(1.0);
        Some(HardLimit { units, window })
    }

    /// Returns the rate at which requests are spaced.
    fn spacing_rate(&self, rate: Rate, strict: Option<HardLimit>, now: Timestamp) -> Rate {
        match strict {
            Some(limit) if self.window_usage.is_complete(limit.window, now) => {
                rate.scaled(CATCH_UP_FACTOR)
            }
            Some(limit) => rate.scaled(estimator::safety_factor(limit.window)),
            None => rate,
        }
    }

    /// Notes a request that the server may count from now on, at the latest.
    fn record_counted(&mut self, ticket: RequestToken, now: Timestamp) {
        if let Some(window) = self.estimator.window {
            self.window_usage.record(f64::from(ticket.weight), window, now);
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "units in flight are few")]
    fn units_in_flight(&self) -> f64 {
        self.in_flight as f64
    }

    /// Until when the next request may be kept waiting on our own judgement.
    fn wait_cap(&self, now: Timestamp) -> Timestamp {
        self.waiting_since.unwrap_or(now).after(self.policy.max_wait)
    }

    /// Returns the rate in force and what it rests on: the slowest that anything demands.
    fn rate_with_source(&self, now: Timestamp) -> Option<(Rate, RateSource)> {
        let cap = self.policy.cap.map(|cap| (cap, RateSource::Cap));
        match self.policy.mode {
            RateLimitMode::Off => None,
            RateLimitMode::Fixed => cap,
            RateLimitMode::Adaptive => {
                let slowest = Rate::from_units(1.0, self.policy.max_wait);
                let told = self.limits.rate(self.policy.reserve, now);
                let told = told.map(|rate| (rate.max(slowest), RateSource::Headers));
                let learned = self.estimator.rate().map(|rate| {
                    let factor = if told.is_none() { 1.0 - self.policy.reserve } else { 1.0 };
                    (rate.scaled(factor).max(slowest), self.estimator.rate_source())
                });
                let slower =
                    |a: (Rate, RateSource), b: (Rate, RateSource)| if b.0 < a.0 { b } else { a };
                [cap, told, learned].into_iter().flatten().reduce(slower)
            }
        }
    }

    /// Takes in the limits that a reply names.
    fn read_limits(&mut self, ticket: RequestToken, reply: &RateLimitReply<'_>, now: Timestamp) {
        if reply.headers.is_cached {
            return;
        }
        let context = ReplyContext {
            sent_at: ticket.sent_at,
            in_flight: self.units_in_flight(),
            accepted_units: self.accepted_units,
            is_accepted: reply.outcome == ReplyOutcome::Accepted,
            reserve: self.policy.reserve,
            now,
        };
        self.limits.update(&reply.headers.limits, &context);
        match self.limits.rate(self.policy.reserve, now) {
            Some(rate) => {
                self.advertised_rate = Some(rate);
                self.estimator.deactivate();
            }
            // What a server told counts while it is silent, but not what turned out to be no use.
            None if reply.headers.limits.is_empty() => {
                self.estimator.activate(self.advertised_rate)
            }
            None => self.estimator.activate(None),
        }
    }

    fn record_success(&mut self, ticket: RequestToken, now: Timestamp) {
        self.window_usage.record_latency(now.since(ticket.sent_at));
        if ticket.generation == self.block.generation {
            self.backoff.record_success();
            let told = self.block.block().and_then(|hold| match hold.reason {
                BlockReason::RetryAfter(told) => Some(told),
                BlockReason::Exhausted { .. } | BlockReason::NoTimeGiven { .. } => None,
            });
            if self.block.block().is_some() {
                self.estimator.record_recovery(told, now);
                // The request that proved it went at a rate that no longer counts.
                if let Some((rate, _)) = self.rate_with_source(now) {
                    self.pacer.restart(rate, now);
                }
            }
            self.block.record_success(ticket.generation);
        }
        self.estimator.record_accepted(f64::from(ticket.weight), now);
    }

    /// Returns what a reply closes the gate for, by the first reason that applies.
    fn block_for(
        &mut self,
        ticket: RequestToken,
        reply: &RateLimitReply<'_>,
        now: Timestamp,
        draw: RandomSample,
    ) -> Option<Block> {
        let signals = reply.headers;
        let is_throttled = reply.outcome == ReplyOutcome::Throttled;
        let is_current = ticket.generation == self.block.generation;
        let exhausted = self.limits.exhausted_until(signals, is_throttled, now);
        if is_throttled
            && is_current
            && exhausted.is_none()
            && self.policy.mode == RateLimitMode::Adaptive
        {
            self.estimator.record_throttled(now);
        }
        if let Some(told) = signals.retry_after.filter(|_| reply.outcome != ReplyOutcome::Accepted)
        {
            let until = now.after(retry_after_with_margin(told, draw));
            let exceeds_max_wait = told > self.policy.max_wait;
            return Some(Block { until, reason: BlockReason::RetryAfter(told), exceeds_max_wait });
        }
        if let Some((resets, family)) = exhausted {
            let wait = resets.since(now);
            if is_throttled || wait >= SHORT_RESET {
                let until =
                    now.after(retry_after_with_margin(wait.min(self.policy.max_wait), draw));
                let exceeds_max_wait = wait > self.policy.max_wait;
                let reason = BlockReason::Exhausted { reset_at: resets, dialect: family };
                return Some(Block { until, reason, exceeds_max_wait });
            }
        }
        (is_throttled && is_current).then(|| self.block_without_time(now, draw))
    }

    /// Returns the hold after a throttle that names no time.
    fn block_without_time(&mut self, now: Timestamp, draw: RandomSample) -> Block {
        let longest = self.policy.max_block();
        let doublings = self.backoff.attempts.min(16);
        let window_ends = self.estimator.window_end(now).filter(|_| doublings == 0);
        let found = self.backoff.next_delay(longest, now, draw);
        let until = match (self.policy.configured_block(), window_ends) {
            (Some(chosen), _) => now.after(chosen.saturating_mul(1 << doublings).min(longest)),
            (None, Some(ends)) => {
                now.after(retry_after_with_margin(ends.since(now).min(longest), draw))
            }
            (None, None) => now.after(found),
        };
        let reason = BlockReason::NoTimeGiven { throttles: self.backoff.attempts };
        Block { until, reason, exceeds_max_wait: until.since(now) > self.policy.max_wait }
    }
}
