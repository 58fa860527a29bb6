//! What a failure means for the one item it happened to.

use std::time::Duration;

use crate::engine::{
    Cause, ErrorAction, ErrorCategory, Failure, RandomSample, RequestScope, Timestamp,
};

/// How often, and how patiently, one item is tried.
#[derive(Clone, Debug, PartialEq)]
pub struct ItemRetryPolicy {
    /// Failed attempts before the item is set aside; at least 1.
    pub max_attempts: u32,
    /// Failed requests in a row before it is set aside, also where its attempts were cut short.
    pub max_requests: u32,
    pub retry_delay: Duration,
    pub max_retry_delay: Duration,
    pub recheck: RecheckPolicy,
}

/// How long quarantined items rest before they are looked at again.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct RecheckPolicy {
    /// The first rest, and every one of an item whose trouble may pass by itself.
    pub interval: Duration,
    /// The longest rest of an item whose trouble is permanent: its rests double up to this.
    pub max_interval: Duration,
}

/// What the failures of an item count for, since it was last taken on.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct ItemFailureCounts {
    /// Whole attempts that failed.
    pub failed_attempts: u32,
    /// Requests that failed in a row, quick retries included.
    pub failed_requests: u32,
    /// Throttles of its own.
    pub strikes: u32,
    /// When the first request that failed was made, where that is known. Others that were made since
    /// then and succeeded show that the failures are its own.
    pub failing_since: Option<Timestamp>,
}

/// What becomes of an item after a failure.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ItemDecision {
    /// It was deleted at the source: settled.
    Gone,
    /// It is tried again at the time given.
    Retry { failures: ItemFailureCounts, at: Timestamp },
    /// Set it aside until its [next look](Recheck::next_look).
    Quarantine,
    /// It is not the item's fault: it waits for the session, with its attempts untouched.
    NotCharged,
}

impl ItemRetryPolicy {
    /// Judges a failure of an item that has failed as `trial` says before.
    #[must_use]
    pub fn on_failure(
        &self,
        failure: &Failure,
        trial: ItemFailureCounts,
        now: Timestamp,
        draw: RandomSample,
    ) -> ItemDecision {
        match failure.cause.action(RequestScope::Item) {
            ErrorAction::MarkGone => ItemDecision::Gone,
            ErrorAction::Quarantine => ItemDecision::Quarantine,
            ErrorAction::Retry
            | ErrorAction::RetryAsChallenge
            | ErrorAction::RetryConservatively => {
                // One that was cut short says less of the item than a whole attempt, and still
                // something: only its requests count, and it goes to the end of the queue.
                let attempts = trial
                    .failed_attempts
                    .saturating_add(u32::from(!failure.is_retry_budget_exhausted));
                let requests = trial.failed_requests.saturating_add(failure.request_count);
                if attempts >= self.max_attempts || requests >= self.max_requests {
                    return ItemDecision::Quarantine;
                }
                let doublings = if failure.is_retry_budget_exhausted { 1 } else { attempts };
                let since = trial.failing_since.or(Some(now));
                let trial = ItemFailureCounts {
                    failed_attempts: attempts,
                    failed_requests: requests,
                    failing_since: since,
                    ..trial
                };
                ItemDecision::Retry {
                    failures: trial,
                    at: now.after(self.backoff_delay(doublings, failure, draw)),
                }
            }
            // It waits by itself, and is at the end of its attempts some time.
            ErrorAction::WaitForRateLimit if failure.is_item_specific_throttle() => {
                let strikes = failure.strikes.unwrap_or_default();
                let costs = strikes.costs_attempt();
                let attempts = trial.failed_attempts.saturating_add(u32::from(costs));
                if attempts >= self.max_attempts {
                    return ItemDecision::Quarantine;
                }
                let at = now.after(self.backoff_delay(attempts.max(1), failure, draw));
                let trial = ItemFailureCounts {
                    failed_attempts: attempts,
                    strikes: strikes.count(),
                    ..trial
                };
                ItemDecision::Retry { failures: trial, at }
            }
            ErrorAction::WaitForRateLimit
            | ErrorAction::RefreshCredential
            | ErrorAction::RetryMuchLater
            | ErrorAction::SwitchProxy
            | ErrorAction::FullResync
            | ErrorAction::RestartListing
            | ErrorAction::WaitForNetwork
            | ErrorAction::WaitForStorage => ItemDecision::NotCharged,
        }
    }

    /// Doubling, over the upper half of the delay by chance, never below the server's word.
    fn backoff_delay(&self, attempts: u32, failure: &Failure, draw: RandomSample) -> Duration {
        let doubled = self.retry_delay.saturating_mul(2_u32.saturating_pow(attempts - 1));
        let capped = doubled.min(self.max_retry_delay);
        capped.mul_f64(0.5 + draw.fraction() / 2.0).max(failure.retry_after.unwrap_or_default())
    }
}

impl RecheckPolicy {
    /// No rest at all.
    pub const IMMEDIATE: Self = Self { interval: Duration::ZERO, max_interval: Duration::ZERO };

    /// When an item is looked at again that is quarantined now, for `cause`, after it was
    /// quarantined `times` times before with no success between.
    #[must_use]
    pub fn next_recheck_at(&self, cause: Cause, times: u32, now: Timestamp) -> Timestamp {
        now.after(self.delay(cause, times))
    }

    /// What is forbidden or too large stays so until a person changes something; servers get
    /// repaired within days.
    fn delay(&self, cause: Cause, times: u32) -> Duration {
        match cause.category() {
            ErrorCategory::Permanent => {
                let doubled = self.interval.saturating_mul(2_u32.saturating_pow(times));
                doubled.min(self.max_interval.max(self.interval))
            }
            ErrorCategory::Temporary
            | ErrorCategory::Authentication
            | ErrorCategory::Local
            | ErrorCategory::Unknown => self.interval,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::ThrottleStrikes;

    const DAY: Duration = Duration::from_secs(86_400);
    const NOW: Timestamp = Timestamp(1_000_000);
    const MAX_SAMPLE: RandomSample = RandomSample(u32::MAX);
    const POLICY: ItemRetryPolicy = ItemRetryPolicy {
        max_attempts: 3,
        max_requests: 9,
        retry_delay: Duration::from_secs(10),
        max_retry_delay: Duration::from_secs(15),
        recheck: RecheckPolicy { interval: DAY, max_interval: Duration::from_secs(7 * 86_400) },
    };

    fn failures(attempts: u32, requests: u32) -> ItemFailureCounts {
        ItemFailureCounts {
            failed_attempts: attempts,
            failed_requests: requests,
            strikes: 0,
            failing_since: None,
        }
    }

    fn decide(cause: Cause, attempts: u32) -> ItemDecision {
        POLICY.on_failure(&Failure::new(cause, "x"), failures(attempts, attempts), NOW, MAX_SAMPLE)
    }

    fn expected_retry(attempts: u32, requests: u32, at: i64) -> ItemDecision {
        let since = Some(NOW);
        ItemDecision::Retry {
            failures: ItemFailureCounts { failing_since: since, ..failures(attempts, requests) },
            at: Timestamp(at),
        }
    }

    #[test]
    fn a_failing_item_is_retried_with_backoff_then_quarantined() {
        assert_eq!(decide(Cause::Server, 0), expected_retry(1, 1, 1_010_000));
        assert_eq!(decide(Cause::Server, 1), expected_retry(2, 2, 1_015_000));
        assert_eq!(decide(Cause::Server, 2), ItemDecision::Quarantine);
    }

    #[test]
    fn permanent_failures_recheck_with_backoff_others_daily() {
        let days = |cause| {
            let looks = (0..5).map(|times| POLICY.recheck.next_recheck_at(cause, times, NOW));
            looks.map(|look| look.since(NOW).as_secs() / 86_400).collect::<Vec<_>>()
        };

        assert_eq!(days(Cause::Forbidden), [1, 2, 4, 7, 7]);
        assert_eq!(days(Cause::TooLarge), [1, 2, 4, 7, 7]);
        assert_eq!(days(Cause::Server), [1; 5]);
        assert_eq!(
            POLICY.recheck.next_recheck_at(Cause::Forbidden, u32::MAX, NOW),
            NOW.after(7 * DAY)
        );
    }

    #[test]
    fn a_source_failure_costs_the_item_no_attempt() {
        for cause in [Cause::RateLimit, Cause::Unauthorized, Cause::Storage, Cause::LocalNetwork] {
            assert_eq!(decide(cause, 2), ItemDecision::NotCharged, "{cause}");
        }
    }

    /// FAULTS 50.
    #[test]
    fn an_item_throttled_alone_backs_off_and_is_quarantined() {
        let mut strikes = ThrottleStrikes::default();
        let mut trial = ItemFailureCounts::default();
        let steps: Vec<ItemDecision> = (0..5)
            .map(|round| {
                // Between two of its throttles another request succeeds.
                strikes = strikes.with_throttle(2 * round, (2 * round).checked_sub(1));
                let failure = Failure::new(Cause::RateLimit, "429")
                    .with_retry_after(Some(Duration::from_secs(60)))
                    .with_strikes(Some(strikes));
                let step = POLICY.on_failure(&failure, trial, NOW, MAX_SAMPLE);
                if let ItemDecision::Retry { failures: so_far, .. } = step {
                    trial = so_far;
                }
                step
            })
            .collect();

        let retry = |attempts, strikes| {
            let trial = ItemFailureCounts { strikes, ..failures(attempts, 0) };
            ItemDecision::Retry { failures: trial, at: Timestamp(1_060_000) }
        };
        let quarantine = ItemDecision::Quarantine;
        assert_eq!(
            steps,
            [ItemDecision::NotCharged, retry(0, 2), retry(1, 3), retry(2, 4), quarantine]
        );
    }

    #[test]
    fn a_deleted_item_is_gone_a_forbidden_one_is_quarantined() {
        assert_eq!(decide(Cause::NotFound, 0), ItemDecision::Gone);
        assert_eq!(decide(Cause::Forbidden, 0), ItemDecision::Quarantine);
    }

    #[test]
    fn a_cut_short_attempt_counts_only_its_requests() {
        let failure =
            Failure { is_retry_budget_exhausted: true, ..Failure::new(Cause::Server, "x") };

        for attempts in [0, 2] {
            let step = POLICY.on_failure(&failure, failures(attempts, 5), NOW, MAX_SAMPLE);
            assert_eq!(step, expected_retry(attempts, 6, 1_010_000));
        }
    }

    /// FAULTS 31.
    #[test]
    fn cut_short_attempts_end_in_quarantine() {
        let failure =
            Failure { is_retry_budget_exhausted: true, ..Failure::new(Cause::Timeout, "x") };
        let mut trial = ItemFailureCounts::default();

        for _ in 1..POLICY.max_requests {
            match POLICY.on_failure(&failure, trial, NOW, MAX_SAMPLE) {
                ItemDecision::Retry { failures: next, .. } => trial = next,
                step @ (ItemDecision::Gone
                | ItemDecision::Quarantine
                | ItemDecision::NotCharged) => {
                    panic!("{step:?} after {trial:?}")
                }
            }
        }

        assert_eq!(POLICY.on_failure(&failure, trial, NOW, MAX_SAMPLE), ItemDecision::Quarantine);
    }

    #[test]
    fn retry_after_applies_to_an_item_too() {
        let failure =
            Failure::new(Cause::Server, "x").with_retry_after(Some(Duration::from_secs(100)));

        let step = POLICY.on_failure(&failure, ItemFailureCounts::default(), NOW, RandomSample(0));

        assert_eq!(step, expected_retry(1, 1, 1_100_000));
    }
}
