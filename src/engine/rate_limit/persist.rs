//! What one process leaves to the next, or to another at its side.

use std::time::Duration;

use crate::engine::rate_limit::estimator::RateEstimator;
use crate::engine::rate_limit::pacer::Pacer;
use crate::engine::rate_limit::{
    AdvertisedLimit, Block, BlockState, LimitState, Rate, RateLimitPolicy, RateLimiter,
    RateLimiterState,
};
use crate::engine::{ClockStep, Timestamp};

impl RateLimiter {
    /// Takes up what an earlier process remembered. A hold goes on until its own deadline.
    #[must_use]
    pub fn restore(policy: RateLimitPolicy, memory: &RateLimiterState, now: Timestamp) -> Self {
        let mut quota = Self::new(policy, now);
        // What lies between the last word of the earlier process and now was nobody's work.
        quota.active_until = Timestamp(memory.written_at).min(now);
        quota.merge_from_peer(memory, now);
        if let Some(told) = quota.advertised_rate {
            // What the server told holds until it tells otherwise, with its first reply.
            quota.estimator.start_at_rate(told);
        }
        if let Some((units, window)) = quota.estimator.first_burst.zip(quota.estimator.window) {
            // What it sent in its last window is not known: it may be all that the server grants in one.
            quota.window_usage.record(units, window, Timestamp(memory.written_at).min(now));
        }
        quota
    }

    /// Goes on from what another process has written since.
    ///
    /// Its word counts as a whole: it saw ours before it spoke. What is in flight here, and the
    /// limits as last read, stay ours: the next reply tells what the other has used.
    pub fn merge_from_peer(&mut self, memory: &RateLimiterState, now: Timestamp) {
        let age = now.since(Timestamp(memory.written_at));
        // What a clock wrote that was ahead of this one is as far away as it was then.
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

    /// Leaves a time out of what is learned in which nothing ran: the process was down, the machine
    /// suspended, or nobody asked for anything. A pause of up to `pause_max` is a part of the work,
    /// and so is a hold.
    ///
    /// The quota may have come back at any moment of that time. The earliest is taken: a rate too
    /// high is refused once more and corrected, one too low stays for days.
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

    /// Notes the time. A clock that was set back takes along what lies ahead, or a wait of a minute
    /// would become one of a day.
    pub(super) fn sync_clock(&mut self, now: Timestamp) {
        if let Some(back) = ClockStep::inferred_backward(self.last_seen_at, now) {
            self.shift_by(back);
        }
        self.last_seen_at = now;
    }

    /// The clock was set by so much: what lies ahead is as far away as it was.
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

    /// Returns what the next process should know.
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
