//! Persisted state of a rate limiter: restored at start, and merged with the state of other
//! processes.

use std::time::Duration;

use crate::rate_limit::estimator::RateEstimator;
use crate::rate_limit::pacer::Pacer;
use crate::rate_limit::{
    AdvertisedLimit, Block, BlockState, LimitState, Rate, RateLimitPolicy, RateLimiter,
    RateLimiterState,
};
use crate::{ClockStep, Timestamp};

impl RateLimiter {
    /// Restores the state of an earlier process. A block keeps its deadline.
    #[must_use]
    pub fn restore(policy: RateLimitPolicy, state: &RateLimiterState, now: Timestamp) -> Self {
        let mut limiter = Self::new(policy, now);
        // The time between the last write of the earlier process and now was idle.
        limiter.activity.active_until = Timestamp(state.written_at).min(now);
        limiter.merge_from_peer(state, now);
        if let Some(rate) = limiter.advertised_rate {
            // The advertised rate applies until the first response advertises another one.
            limiter.estimator.start_at_rate(rate);
        }
        let limit = limiter.estimator.limit;
        if let Some((units, window)) = limit.first_burst.zip(limit.window) {
            // The requests that the earlier process sent in its last window are not known: they may
            // have used up the whole window.
            limiter.window_usage.record(units, window, Timestamp(state.written_at).min(now));
        }
        limiter
    }

    /// Returns a limiter with another policy and the same state. Requests in flight are not counted
    /// any more.
    #[must_use]
    pub fn with_policy(&self, policy: RateLimitPolicy, now: Timestamp) -> Self {
        let mut limiter = Self::restore(policy, &self.to_state(now), now);
        limiter.byte_budget = self.byte_budget.clone();
        limiter
    }

    /// Records that other processes can read the whole state.
    pub fn record_saved(&mut self) {
        self.block.record_saved();
        self.byte_budget.record_saved();
    }

    /// Replaces the state by what another process has written since.
    ///
    /// The written state replaces ours, because the other process read ours before it wrote. What
    /// it cannot know is kept: an unsaved block, unsaved bytes, and the end of the last lock-out.
    /// The requests in flight and the limits as last read are kept, too: the next response reports
    /// what the other process has used.
    pub fn merge_from_peer(&mut self, state: &RateLimiterState, now: Timestamp) {
        let age = now.since(Timestamp(state.written_at));
        // Deadlines written by a clock that was ahead of this one are shifted, so that the
        // remaining time stays the same.
        let clock_step = ClockStep::inferred_backward(Timestamp(state.written_at), now);
        let mut block = state.block.as_ref().map(Block::from);
        let mut due_at = state.next_due_at.map_or(now, Timestamp);
        if let Some(clock_step) = clock_step {
            due_at = due_at.shifted_by(clock_step);
            if let Some(block) = &mut block {
                block.until = block.until.shifted_by(clock_step);
            }
        }
        self.block.merge_from_peer(block, state.probe_sent_at.map(Timestamp));
        self.pacer = Pacer::restore(due_at.min(now.after(self.policy.max_wait)));
        let last_long_delay = state.backoff_last_long_delay_millis.map(Duration::from_millis);
        self.backoff.merge_from_peer(
            state.backoff_first_step,
            last_long_delay,
            state.backoff_attempts,
            now,
        );
        self.backoff.lock_outs.merge_from_peer(state.lock_outs, clock_step);
        let estimator = match clock_step {
            Some(clock_step) => state.estimator.shifted_by(clock_step),
            None => state.estimator.clone(),
        };
        let estimator = RateEstimator::restore(&estimator, self.policy.slow_start_rate, age, now);
        self.estimator.merge_from_peer(estimator);
        self.window_usage.mark_shared_until(now);
        self.byte_budget.merge_from_peer(&state.received_bytes, clock_step);
        self.advertised_rate = state.advertised_rate.map(Rate::per_second);
        self.restored_limits = state.limits.iter().map(AdvertisedLimit::from).collect();
        self.activity.last_seen_at = now;
        self.activity.extend_to(Timestamp(state.written_at).min(now));
    }

    /// Excludes an idle time from the measurements: the process was down, the machine suspended, or
    /// no request was made. A pause of up to `pause_max` is not idle time, and neither is a block.
    ///
    /// The server may have recovered at any moment of that time. The earliest is assumed: a rate
    /// that is too high is throttled once more and corrected, one that is too low stays for days.
    pub(super) fn exclude_idle_time(&mut self, pause_max: Duration, now: Timestamp) {
        let blocked_until = self.block.block().map(|block| block.until);
        let idle = self.activity.idle_time(blocked_until, now);
        if idle > pause_max {
            self.estimator.exclude_idle(idle);
            self.backoff.exclude_idle(idle);
            self.limits.exclude_idle();
        }
        self.activity.extend_to(now);
    }

    /// Records the time. If the clock was set back, deadlines are shifted with it: otherwise a wait
    /// of one minute would become one of a day.
    pub(super) fn sync_clock(&mut self, now: Timestamp) {
        if let Some(clock_step) = ClockStep::inferred_backward(self.activity.last_seen_at, now) {
            self.shift_by(clock_step);
        }
        self.activity.last_seen_at = now;
    }

    /// Shifts all times by a clock step, so that the remaining times stay the same.
    pub fn shift_by(&mut self, step: ClockStep) {
        self.block.shift_by(step);
        self.pacer.shift_by(step);
        self.window_usage.shift_by(step);
        self.byte_budget.shift_by(step);
        self.limits.shift_by(step);
        self.backoff.shift_by(step);
        self.estimator.shift_by(step);
        self.activity.shift_by(step);
    }

    /// Returns the state for the next process.
    #[must_use]
    pub fn to_state(&self, now: Timestamp) -> RateLimiterState {
        RateLimiterState {
            written_at: now.0,
            block: self.block.block().map(BlockState::from),
            probe_sent_at: self.block.probe_sent_at().map(|at| at.0),
            next_due_at: Some(self.pacer.due_at().0),
            advertised_rate: self.advertised_rate.map(Rate::get),
            backoff_first_step: self.backoff.first_step,
            backoff_last_long_delay_millis: self
                .backoff
                .last_long_delay
                .and_then(|delay| u64::try_from(delay.as_millis()).ok()),
            backoff_attempts: self.backoff.attempts,
            lock_outs: self.backoff.lock_outs.to_state(),
            estimator: self.estimator.to_state(),
            limits: self.known_limits().iter().map(LimitState::from).collect(),
            received_bytes: self.byte_budget.to_state(),
        }
    }
}
