//! How many retries a scope may send: a share of its first attempts, so that a server in trouble is not
//! given more work by its failing.
//!
//! The client-side budget of "Site Reliability Engineering", chapter 21 ("Handling Overload"): retries
//! are at most a tenth of the requests. A small reserve, refilled in time, lets a scope with little to do
//! retry at all. What a 429 holds back is no retry and is not asked for here.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::engine::Moment;

/// How much may be retried.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BudgetPolicy {
    /// Retries earned by each first attempt, in `0.0..=1.0`.
    pub share: f64,
    /// Retries beside those earned, when nothing was retried for long.
    pub reserve: u32,
    /// After so long one retry of the reserve is there again.
    pub refill: Duration,
}

impl Default for BudgetPolicy {
    fn default() -> Self {
        Self { share: 0.1, reserve: 10, refill: Duration::from_secs(10) }
    }
}

/// Retries that have been earned are kept for this many first attempts: what went well yesterday is no leave
/// to flood today.
const EARNED_ATTEMPTS_MAX: f64 = 1000.0;

/// A tiny part of a retry: ten times a tenth is one, whatever the rounding.
const ROUNDING: f64 = 1e-9;

/// The retries left to one scope.
#[derive(Clone, Debug, PartialEq)]
pub struct RetryBudget {
    policy: BudgetPolicy,
    earned: f64,
    reserve: f64,
    /// Up to when the reserve has been refilled.
    at: Moment,
}

/// What outlives the process.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct BudgetMemory {
    pub earned: f64,
    pub reserve: f64,
    /// When, in milliseconds since the Unix epoch.
    pub at: i64,
}

impl RetryBudget {
    /// Starts with the whole reserve.
    #[must_use]
    pub fn new(policy: BudgetPolicy, now: Moment) -> Self {
        Self { policy, earned: 0.0, reserve: f64::from(policy.reserve), at: now }
    }

    /// Goes on with what another process left, so that a loop of crashes has one reserve and not one each.
    #[must_use]
    pub fn recall(policy: BudgetPolicy, memory: &BudgetMemory, now: Moment) -> Self {
        let mut budget = Self::new(policy, Moment(memory.at.min(now.0)));
        budget.earned = within(memory.earned, budget.earned_max());
        budget.reserve = within(memory.reserve, budget.reserve);
        budget.refill(now);
        budget
    }

    #[must_use]
    pub fn memory(&self) -> BudgetMemory {
        BudgetMemory { earned: self.earned, reserve: self.reserve, at: self.at.0 }
    }

    /// Notes a request that is no retry.
    pub fn first_attempt(&mut self) {
        self.earned = (self.earned + self.policy.share).min(self.earned_max());
    }

    /// Takes one retry out of the budget; `false` when none is left, and the item goes to the end of the queue.
    #[must_use]
    pub fn try_retry(&mut self, now: Moment) -> bool {
        self.refill(now);
        let purse =
            if self.earned + ROUNDING >= 1.0 { &mut self.earned } else { &mut self.reserve };
        let is_enough = *purse + ROUNDING >= 1.0;
        if is_enough {
            *purse = (*purse - 1.0).max(0.0);
        }
        is_enough
    }

    /// Returns how many retries could be taken at once.
    #[must_use]
    pub fn left(&self, now: Moment) -> f64 {
        let mut then = self.clone();
        then.refill(now);
        (then.earned + ROUNDING).floor() + (then.reserve + ROUNDING).floor()
    }

    fn refill(&mut self, now: Moment) {
        let passed = now.since(self.at).as_secs_f64();
        let refill = self.policy.refill.as_secs_f64();
        let gained = if refill > 0.0 { passed / refill } else { f64::INFINITY };
        // No time passed gains nothing, also where the refill takes none.
        if passed > 0.0 {
            self.reserve = (self.reserve + gained).min(f64::from(self.policy.reserve));
            self.at = now;
        }
    }

    fn earned_max(&self) -> f64 {
        self.policy.share * EARNED_ATTEMPTS_MAX
    }
}

/// A figure from a file, as far as it can be.
fn within(figure: f64, most: f64) -> f64 {
    if figure.is_finite() { figure.clamp(0.0, most) } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(seconds: i64) -> Moment {
        Moment(seconds * 1000)
    }

    /// How many retries come through of `asked`.
    fn retries(budget: &mut RetryBudget, asked: u32, now: Moment) -> usize {
        (0..asked).filter(|_| budget.try_retry(now)).count()
    }

    #[test]
    fn a_tenth_of_the_first_attempts_may_be_retried() {
        let policy = BudgetPolicy { reserve: 0, ..BudgetPolicy::default() };
        let mut budget = RetryBudget::new(policy, seconds(0));
        for _ in 0..200 {
            budget.first_attempt();
        }

        assert_eq!(retries(&mut budget, 100, seconds(0)), 20);
    }

    #[test]
    fn the_reserve_comes_back_in_time_and_no_further() {
        let mut budget = RetryBudget::new(BudgetPolicy::default(), seconds(0));

        assert_eq!(retries(&mut budget, 100, seconds(0)), 10);
        assert_eq!(retries(&mut budget, 100, seconds(35)), 3);
        assert_eq!(retries(&mut budget, 100, seconds(40)), 1);
        assert_eq!(retries(&mut budget, 100, seconds(100_000)), 10);
    }

    #[test]
    fn what_is_earned_is_spent_before_the_reserve() {
        let mut budget = RetryBudget::new(BudgetPolicy::default(), seconds(0));
        for _ in 0..10 {
            budget.first_attempt();
        }

        assert!(budget.try_retry(seconds(0)));
        assert_eq!(budget.left(seconds(0)), 10.0);
    }

    #[test]
    fn a_loop_of_crashes_does_not_refill_it() {
        let policy = BudgetPolicy::default();
        let mut budget = RetryBudget::new(policy, seconds(0));
        assert_eq!(retries(&mut budget, 100, seconds(0)), 10);
        for crash in 1..=9 {
            budget = RetryBudget::recall(policy, &budget.memory(), seconds(crash));
            assert!(!budget.try_retry(seconds(crash)), "crash {crash}");
        }
        budget = RetryBudget::recall(policy, &budget.memory(), seconds(10));

        assert!(budget.try_retry(seconds(10)));
    }

    #[test]
    fn a_clock_that_is_set_back_neither_gives_nor_takes() {
        let mut budget = RetryBudget::new(BudgetPolicy::default(), seconds(100));
        assert_eq!(retries(&mut budget, 10, seconds(100)), 10);

        assert_eq!(retries(&mut budget, 10, seconds(0)), 0);
        let recalled = RetryBudget::recall(budget.policy, &budget.memory(), seconds(0));
        assert_eq!(recalled.left(seconds(10)), 1.0, "counted from now, not from what lies ahead");
    }
}

#[cfg(test)]
mod laws {
    use super::*;
    use proptest::prelude::*;

    #[derive(Clone, Copy, Debug)]
    enum Step {
        First,
        Retry,
        Pass(i64),
        Restart,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            6 => Just(Step::First),
            6 => Just(Step::Retry),
            1 => (0..20_000_i64).prop_map(Step::Pass),
            1 => Just(Step::Restart),
        ]
    }

    proptest! {
        #[test]
        fn retries_are_never_more_than_the_share_the_reserve_and_the_refill(
            share in 0.0..=1.0_f64,
            reserve in 0..20_u32,
            refill in 1..100_000_u64,
            steps in prop::collection::vec(step(), 0..400),
        ) {
            let refill = Duration::from_millis(refill);
            let policy = BudgetPolicy { share, reserve, refill };
            let (mut budget, mut now) = (RetryBudget::new(policy, Moment(0)), Moment(0));
            let (mut first, mut retries) = (0.0, 0.0);
            for step in steps {
                match step {
                    Step::First => {
                        budget.first_attempt();
                        first += 1.0;
                    }
                    Step::Retry if budget.try_retry(now) => retries += 1.0,
                    Step::Retry => {}
                    Step::Pass(millis) => now = Moment(now.0 + millis),
                    Step::Restart => budget = RetryBudget::recall(policy, &budget.memory(), now),
                }
                let refilled = now.since(Moment(0)).as_secs_f64() / refill.as_secs_f64();
                let most = share * first + f64::from(reserve) + refilled;
                prop_assert!(retries <= most + 1e-6, "{retries} > {most}");
            }
        }

        #[test]
        fn a_memory_of_junk_is_no_wealth(earned: f64, reserve: f64, at: i64, now: i64) {
            let memory = BudgetMemory { earned, reserve, at };
            let policy = BudgetPolicy::default();
            let budget = RetryBudget::recall(policy, &memory, Moment(now));
            let most = policy.share * EARNED_ATTEMPTS_MAX + f64::from(policy.reserve);
            prop_assert!((0.0..=most).contains(&budget.left(Moment(now))));
        }
    }
}
