//! Persisted state of a rate limiter: restored at start, and merged with the state of other
//! processes.

use std::time::Duration;

use crate::engine::rate_limit::estimator::RateEstimator;
use crate::engine::rate_limit::pacer::Pacer;
use crate::engine::rate_limit::{
    AdvertisedLimit, Block, BlockState, LimitState, Rate, RateLimitPolicy, RateLimiter,
    RateLimiterState,
};
use crate::engine::{ClockStep, Timestamp};

impl RateLimiter {
    /// Restores the state of an earlier process. A block keeps its deadline.
    #[must_use]
    pub fn restore(policy: RateLimitPolicy, memory: &RateLimiterState, now: Timestamp) -> Self {
        let mut quota = Self::new(policy, now);
        // The time between the last write of the earlier process and now was idle.
        quota.active_until = Timestamp(memory.written_at).min(now);
        quota.merge_from_peer(memory, now);
        if let Some(told) = quota.advertised_rate {
            // The advertised rate applies until the first reply advertises another one.
            quota.estimator.start_at_rate(told);
        }
        if let Some((units, window)) = quota.estimator.first_burst.zip(quota.estimator.window) {
            // The requests that process sent in its last window are not known: they may have used
            // up the whole window.
            quota.window_usage.record(units, window, Timestamp(memory.written_at).min(now));
        }
        quota
    }

    /// Replaces the state by what another process has written since.
    ///
    /// The written state replaces all of ours, because the other process read ours before it wrote.
    /// The requests in flight and the limits as last read are kept: the next reply reports what the
    /// other process has used.
    pub fn merge_from_peer(&mut self, memory: &RateLimiterState, now: Timestamp) {
        let age = now.since(Timestamp(memory.written_at));
        // Deadlines written by a clock that was ahead of this one are shifted, so that the
        // remaining time stays the same.
        let back = ClockStep::inferred_backward(Timestamp(memory.written_at), now);
        self.block.merge_from_peer(
            memory.block.as_ref().map(Block::from),
            memory.probe_sent_at.map(Timestamp),
        );
        let mut due = memory.next_due_at.map_or(now, Timestamp);
        if let Some(back) = back {
            self.block.shift_by(back);
            due = due.shifted_by(back);
        }
        self.pacer = Pacer::restore(due.min(now.after(self.policy.max_wait)));
        let longer = memory.backoff_last_long_delay_millis.map(Duration::from_millis);
        self.backoff.merge_from_peer(
            memory.backoff_first_step,
            longer,
            memory.backoff_attempts,
            now,
        );
        let learned =
            back.map_or_else(|| memory.estimator.clone(), |back| memory.estimator.shifted_by(back));
        self.estimator.merge_from_peer(RateEstimator::restore(&learned, age, now));
        self.window_usage.mark_shared_until(now);
        self.advertised_rate = memory.advertised_rate.map(Rate::per_second);
        self.restored_limits = memory.limits.iter().map(AdvertisedLimit::from).collect();
        self.last_seen_at = now;
        self.active_until = self.active_until.max(Timestamp(memory.written_at).min(now));
    }

    /// Excludes an idle time from the measurements: the process was down, the machine suspended, or
    /// no request was made. A pause of up to `pause_max` is not idle time, and neither is a block.
    ///
    /// The server may have recovered at any moment of that time. The earliest is assumed: a rate
    /// that is too high is throttled once more and corrected, one that is too low stays for days.
    pub(super) fn exclude_idle_time(&mut self, pause_max: Duration, now: Timestamp) {
        let held_until = self.block.block().map(|hold| hold.until);
        let rest = now.since(self.active_until.max(held_until.unwrap_or(self.active_until)));
        if rest > pause_max {
            self.estimator.exclude_idle(rest);
            self.backoff.exclude_idle(rest);
            self.limits.exclude_idle();
        }
        self.active_until = self.active_until.max(now);
    }

    /// Records the time. If the clock was set back, deadlines are shifted with it: otherwise a wait
    /// of one minute would become one of a day.
    pub(super) fn sync_clock(&mut self, now: Timestamp) {
        if let Some(back) = ClockStep::inferred_backward(self.last_seen_at, now) {
            self.shift_by(back);
        }
        self.last_seen_at = now;
    }

    /// Shifts all times by a clock step, so that the remaining times stay the same.
    pub fn shift_by(&mut self, step: ClockStep) {
        self.block.shift_by(step);
        self.pacer.shift_by(step);
        self.window_usage.shift_by(step);
        self.limits.shift_by(step);
        self.backoff.shift_by(step);
        self.estimator.shift_by(step);
        self.waiting_since = self.waiting_since.map(|since| since.shifted_by(step));
        self.last_seen_at = self.last_seen_at.shifted_by(step);
        self.active_until = self.active_until.shifted_by(step);
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
                .and_then(|hold| u64::try_from(hold.as_millis()).ok()),
            backoff_attempts: self.backoff.attempts,
            estimator: self.estimator.to_state(),
            limits: self.known_limits().iter().map(LimitState::from).collect(),
        }
    }
}
