//! Retry budget of a scope: a share of its first attempts, so that failures do not increase the
//! load on a failing server.
//!
//! Client-side budget of "Site Reliability Engineering", chapter 21 ("Handling Overload"): retries
//! are at most a tenth of the requests. A small reserve, refilled over time, permits retries in a
//! scope with few requests. A request delayed by a 429 is no retry and takes nothing from it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::Timestamp;

/// Limits of a retry budget.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RetryBudgetPolicy {
    /// Retries earned by each first attempt, in `0.0..=1.0`.
    pub retry_ratio: f64,
    /// Retries in addition to the earned ones, after a long time without retries.
    pub reserve: u32,
    /// Time in which one retry is added to the reserve.
    pub refill_interval: Duration,
}

impl Default for RetryBudgetPolicy {
    fn default() -> Self {
        Self { retry_ratio: 0.1, reserve: 10, refill_interval: Duration::from_secs(10) }
    }
}

/// Number of first attempts whose earned retries are kept: yesterday's successes must not permit a
/// flood of retries today.
const EARNED_ATTEMPTS_MAX: f64 = 1000.0;

/// Tolerance for rounding errors, in retries: ten times a tenth must count as one.
const ROUNDING_TOLERANCE: f64 = 1e-9;

/// Available retries of one scope.
#[derive(Clone, Debug, PartialEq)]
pub struct RetryBudget {
    policy: RetryBudgetPolicy,
    earned: f64,
    reserve: f64,
    /// Time up to which the reserve has been refilled.
    refilled_at: Timestamp,
}

/// Persisted form of a [`RetryBudget`].
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct RetryBudgetState {
    pub earned: f64,
    pub reserve: f64,
    /// Time of the last refill, in milliseconds since the Unix epoch.
    #[serde(rename = "at")]
    pub refilled_at: i64,
}

impl RetryBudget {
    /// Creates a budget with a full reserve.
    #[must_use]
    pub fn new(policy: RetryBudgetPolicy, now: Timestamp) -> Self {
        Self { policy, earned: 0.0, reserve: f64::from(policy.reserve), refilled_at: now }
    }

    /// Restores the budget of an earlier process, so that all processes of a crash loop share one
    /// reserve.
    #[must_use]
    pub fn restore(policy: RetryBudgetPolicy, state: &RetryBudgetState, now: Timestamp) -> Self {
        let mut budget = Self::new(policy, Timestamp(state.refilled_at.min(now.0)));
        budget.earned = clamp_or_zero(state.earned, budget.earned_max());
        budget.reserve = clamp_or_zero(state.reserve, budget.reserve);
        budget.refill(now);
        budget
    }

    #[must_use]
    pub fn to_state(&self) -> RetryBudgetState {
        RetryBudgetState {
            earned: self.earned,
            reserve: self.reserve,
            refilled_at: self.refilled_at.0,
        }
    }

    /// Records a request that is no retry.
    pub fn record_first_attempt(&mut self) {
        self.earned = (self.earned + self.policy.retry_ratio).min(self.earned_max());
    }

    /// Takes one retry from the budget. Returns false if none is left; the caller then moves the
    /// item to the end of the queue.
    #[must_use]
    pub fn try_take_retry(&mut self, now: Timestamp) -> bool {
        self.refill(now);
        let balance = if self.earned + ROUNDING_TOLERANCE >= 1.0 {
            &mut self.earned
        } else {
            &mut self.reserve
        };
        let has_retry = *balance + ROUNDING_TOLERANCE >= 1.0;
        if has_retry {
            *balance = (*balance - 1.0).max(0.0);
        }
        has_retry
    }

    /// Returns the number of retries that could be taken at once.
    #[must_use]
    pub fn available_retries(&self, now: Timestamp) -> f64 {
        let mut refilled = self.clone();
        refilled.refill(now);
        (refilled.earned + ROUNDING_TOLERANCE).floor()
            + (refilled.reserve + ROUNDING_TOLERANCE).floor()
    }

    fn refill(&mut self, now: Timestamp) {
        let elapsed = now.since(self.refilled_at).as_secs_f64();
        let interval = self.policy.refill_interval.as_secs_f64();
        let gained = if interval > 0.0 { elapsed / interval } else { f64::INFINITY };
        // Without elapsed time nothing is gained, even if the refill interval is zero.
        if elapsed > 0.0 {
            self.reserve = (self.reserve + gained).min(f64::from(self.policy.reserve));
            self.refilled_at = now;
        }
    }

    fn earned_max(&self) -> f64 {
        self.policy.retry_ratio * EARNED_ATTEMPTS_MAX
    }
}

/// Clamps a number from a file to `0..=max`; 0 if it is not finite.
fn clamp_or_zero(value: f64, max: f64) -> f64 {
    if value.is_finite() { value.clamp(0.0, max) } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(seconds: i64) -> Timestamp {
        Timestamp(seconds * 1000)
    }

    /// Returns the number of granted retries out of `requested`.
    fn granted_retries(budget: &mut RetryBudget, requested: u32, now: Timestamp) -> usize {
        (0..requested).filter(|_| budget.try_take_retry(now)).count()
    }

    #[test]
    fn a_tenth_of_the_first_attempts_may_be_retried() {
        let policy = RetryBudgetPolicy { reserve: 0, ..RetryBudgetPolicy::default() };
        let mut budget = RetryBudget::new(policy, seconds(0));
        for _ in 0..200 {
            budget.record_first_attempt();
        }

        assert_eq!(granted_retries(&mut budget, 100, seconds(0)), 20);
    }

    #[test]
    fn the_reserve_refills_over_time_up_to_its_size() {
        let mut budget = RetryBudget::new(RetryBudgetPolicy::default(), seconds(0));

        assert_eq!(granted_retries(&mut budget, 100, seconds(0)), 10);
        assert_eq!(granted_retries(&mut budget, 100, seconds(35)), 3);
        assert_eq!(granted_retries(&mut budget, 100, seconds(40)), 1);
        assert_eq!(granted_retries(&mut budget, 100, seconds(100_000)), 10);
    }

    #[test]
    fn earned_retries_are_spent_before_the_reserve() {
        let mut budget = RetryBudget::new(RetryBudgetPolicy::default(), seconds(0));
        for _ in 0..10 {
            budget.record_first_attempt();
        }

        assert!(budget.try_take_retry(seconds(0)));
        assert_eq!(budget.available_retries(seconds(0)), 10.0);
    }

    #[test]
    fn a_crash_loop_does_not_refill_the_reserve() {
        let policy = RetryBudgetPolicy::default();
        let mut budget = RetryBudget::new(policy, seconds(0));
        assert_eq!(granted_retries(&mut budget, 100, seconds(0)), 10);
        for crash in 1..=9 {
            budget = RetryBudget::restore(policy, &budget.to_state(), seconds(crash));
            assert!(!budget.try_take_retry(seconds(crash)), "crash {crash}");
        }
        budget = RetryBudget::restore(policy, &budget.to_state(), seconds(10));

        assert!(budget.try_take_retry(seconds(10)));
    }

    #[test]
    fn a_backward_clock_step_does_not_change_the_budget() {
        let mut budget = RetryBudget::new(RetryBudgetPolicy::default(), seconds(100));
        assert_eq!(granted_retries(&mut budget, 10, seconds(100)), 10);

        assert_eq!(granted_retries(&mut budget, 10, seconds(0)), 0);
        let restored = RetryBudget::restore(budget.policy, &budget.to_state(), seconds(0));
        assert_eq!(
            restored.available_retries(seconds(10)),
            1.0,
            "the refill counts from now, not from a future time"
        );
    }
}

#[cfg(test)]
mod proptests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Clone, Copy, Debug)]
    enum BudgetOperation {
        FirstAttempt,
        Retry,
        TimePasses(i64),
        Restart,
    }

    fn operation() -> impl Strategy<Value = BudgetOperation> {
        prop_oneof![
            6 => Just(BudgetOperation::FirstAttempt),
            6 => Just(BudgetOperation::Retry),
            1 => (0..20_000_i64).prop_map(BudgetOperation::TimePasses),
            1 => Just(BudgetOperation::Restart),
        ]
    }

    proptest! {
        #[test]
        fn retries_never_exceed_ratio_reserve_and_refill(
            retry_ratio in 0.0..=1.0_f64,
            reserve in 0..20_u32,
            refill_interval in 1..100_000_u64,
            operations in prop::collection::vec(operation(), 0..400),
        ) {
            let refill_interval = Duration::from_millis(refill_interval);
            let policy = RetryBudgetPolicy { retry_ratio, reserve, refill_interval };
            let (mut budget, mut now) = (RetryBudget::new(policy, Timestamp(0)), Timestamp(0));
            let (mut first_attempts, mut retries) = (0.0, 0.0);
            for operation in operations {
                match operation {
                    BudgetOperation::FirstAttempt => {
                        budget.record_first_attempt();
                        first_attempts += 1.0;
                    }
                    BudgetOperation::Retry if budget.try_take_retry(now) => retries += 1.0,
                    BudgetOperation::Retry => {}
                    BudgetOperation::TimePasses(millis) => now = Timestamp(now.0 + millis),
                    BudgetOperation::Restart => budget = RetryBudget::restore(policy, &budget.to_state(), now),
                }
                let elapsed = now.since(Timestamp(0)).as_secs_f64();
                let refilled = elapsed / refill_interval.as_secs_f64();
                let max = retry_ratio * first_attempts + f64::from(reserve) + refilled;
                prop_assert!(retries <= max + 1e-6, "{retries} > {max}");
            }
        }

        #[test]
        fn a_corrupt_state_grants_no_extra_retries(earned: f64, reserve: f64, at: i64, now: i64) {
            let state = RetryBudgetState { earned, reserve, refilled_at: at };
            let policy = RetryBudgetPolicy::default();
            let budget = RetryBudget::restore(policy, &state, Timestamp(now));
            let max = policy.retry_ratio * EARNED_ATTEMPTS_MAX + f64::from(policy.reserve);
            prop_assert!((0.0..=max).contains(&budget.available_retries(Timestamp(now))));
        }
    }
}
