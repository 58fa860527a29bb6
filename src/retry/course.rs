//! The course of one call: every decision between its attempts, for both ways of waiting.

use std::fmt::Display;
use std::time::Duration;

use tracing::debug;

use crate::engine::sanitize_line;
use crate::retry::fault::{GaveUp, Why};
use crate::retry::policy::{Attempts, Policy, Retry};

/// One call under way. Dropped in the middle of an attempt, it tells the breaker.
pub(super) struct Course<'a> {
    policy: &'a Policy,
    attempts: u32,
    is_attempting: bool,
}

impl<'a> Course<'a> {
    /// Begins a call with its first attempt, unless the breaker forbids it.
    pub(super) fn begin<E>(policy: &'a Policy) -> Result<Self, GaveUp<E>> {
        let mut course = Self { policy, attempts: 0, is_attempting: false };
        if course.may_attempt() {
            policy.count(|statistics| statistics.calls += 1);
            return Ok(course);
        }
        policy.count(|statistics| {
            statistics.calls += 1;
            statistics.refused += 1;
        });
        let guard = policy.guard().map(|guard| guard.name().to_owned()).unwrap_or_default();
        Err(GaveUp::Refused { guard })
    }

    pub(super) fn succeeded(mut self) {
        self.is_attempting = false;
        if let Some(guard) = self.policy.guard() {
            guard.succeeded();
        }
        let first = self.attempts == 1;
        self.policy.count(|statistics| {
            statistics.first_try += u64::from(first);
            statistics.recovered += u64::from(!first);
        });
    }

    /// Judges a failure: how long to wait before the next attempt, or why there is none.
    pub(super) fn failed<E: Display>(
        &mut self,
        hooks: &mut Attempts<'_, E>,
        failure: &E,
    ) -> Result<Duration, Why> {
        let is_retryable = (hooks.retryable)(failure);
        self.is_attempting = false;
        if let Some(guard) = self.policy.guard() {
            if is_retryable { guard.failed() } else { guard.abandoned() }
        }
        let line = sanitize_line(&failure.to_string());
        self.policy.count(|statistics| statistics.last_failure = Some(line));

        if !is_retryable {
            return Err(Why::NotRetryable);
        }
        if self.policy.shape().max_attempts <= self.attempts {
            return Err(Why::Attempts);
        }
        if !self.policy.may_retry() {
            return Err(Why::Budget);
        }
        let delay = self.policy.delay(self.attempts, (hooks.told)(failure));
        let name = self.policy.name();
        debug!(policy = name, attempt = self.attempts, ?delay, "trying again: {failure}");
        if let Some(on_retry) = &mut hooks.on_retry {
            on_retry(&Retry { policy: name, attempt: self.attempts, delay, failure });
        }
        Ok(delay)
    }

    /// Goes on with the next attempt after a wait, unless the breaker has opened meanwhile.
    pub(super) fn again(&mut self, waited: Duration) -> Result<(), Why> {
        self.policy.count(|statistics| statistics.delay += waited);
        if !self.may_attempt() {
            return Err(Why::Guard);
        }
        self.policy.count(|statistics| statistics.retries += 1);
        Ok(())
    }

    pub(super) fn gave_up<E>(self, failure: E, why: Why) -> GaveUp<E> {
        self.policy.count(|statistics| statistics.gave_up += 1);
        GaveUp::Failed { failure, attempts: self.attempts, why }
    }

    fn may_attempt(&mut self) -> bool {
        let permitted = self.policy.guard().is_none_or(|guard| guard.permits());
        self.is_attempting = permitted;
        self.attempts += u32::from(permitted);
        permitted
    }
}

impl Drop for Course<'_> {
    fn drop(&mut self) {
        if self.is_attempting
            && let Some(guard) = self.policy.guard()
        {
            guard.abandoned();
        }
    }
}
