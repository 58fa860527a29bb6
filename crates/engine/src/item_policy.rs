//! Retry policy of a single item: the decision after each of its failures.

use std::time::Duration;

use crate::backoff::doubled_delay;
use crate::{Cause, ErrorAction, ErrorCategory, Failure, RandomSample, RequestScope, Timestamp};

/// Limits and delays for the attempts at one item.
#[derive(Clone, Debug, PartialEq)]
pub struct ItemRetryPolicy {
    /// Failed attempts before the item is quarantined; at least 1.
    pub max_attempts: u32,
    /// Consecutive failed requests before it is quarantined, also if its attempts were cut short.
    pub max_requests: u32,
    pub retry_delay: Duration,
    pub max_retry_delay: Duration,
    pub recheck: RecheckPolicy,
}

/// Delays before quarantined items are rechecked.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct RecheckPolicy {
    /// First delay, and every delay of an item whose failure may pass by itself.
    pub interval: Duration,
    /// Longest delay of an item whose failure is permanent: its delays double up to this.
    pub max_interval: Duration,
}

/// Failure counts of an item since it last became pending.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct ItemFailureCounts {
    /// Complete attempts that failed.
    pub failed_attempts: u32,
    /// Consecutive failed requests, quick retries included.
    pub failed_requests: u32,
    /// Throttles specific to this item.
    pub strikes: u32,
    /// Time of the first failed request, if known. Requests for other items that were sent since
    /// then and succeeded show that the failures are item-specific.
    pub failing_since: Option<Timestamp>,
}

/// Decision about an item after a failure.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ItemDecision {
    /// Deleted at the source: settled.
    Gone,
    /// Retry at the given time.
    Retry { failures: ItemFailureCounts, at: Timestamp },
    /// Quarantine until its [next recheck](RecheckPolicy::next_recheck_at).
    Quarantine,
    /// Not the item's fault: it waits for the session, and no attempt is charged.
    NotCharged,
}

impl ItemRetryPolicy {
    /// Decides about an item after a failure; `counts` are those of its earlier failures.
    #[must_use]
    pub fn on_failure(
        &self,
        failure: &Failure,
        counts: ItemFailureCounts,
        now: Timestamp,
        sample: RandomSample,
    ) -> ItemDecision {
        match failure.cause.action(RequestScope::Item) {
            ErrorAction::MarkGone => ItemDecision::Gone,
            ErrorAction::Quarantine => ItemDecision::Quarantine,
            ErrorAction::Retry
            | ErrorAction::RetryAsChallenge
            | ErrorAction::RetryConservatively => {
                // An attempt that was cut short says less about the item than a complete one:
                // only its requests count, and the item goes to the end of the queue.
                let attempts = counts
                    .failed_attempts
                    .saturating_add(u32::from(!failure.is_retry_budget_exhausted));
                let requests = counts.failed_requests.saturating_add(failure.request_count);
                if attempts >= self.max_attempts || requests >= self.max_requests {
                    return ItemDecision::Quarantine;
                }
                let delay_number = if failure.is_retry_budget_exhausted { 1 } else { attempts };
                let failing_since = counts.failing_since.or(Some(now));
                let counts = ItemFailureCounts {
                    failed_attempts: attempts,
                    failed_requests: requests,
                    failing_since,
                    ..counts
                };
                ItemDecision::Retry {
                    failures: counts,
                    at: now.after(self.backoff_delay(delay_number, failure, sample)),
                }
            }
            // Only this item waits, and its attempts run out eventually.
            ErrorAction::WaitForRateLimit if failure.is_item_specific_throttle() => {
                let strikes = failure.strikes.unwrap_or_default();
                let costs_attempt = strikes.costs_attempt();
                let attempts = counts.failed_attempts.saturating_add(u32::from(costs_attempt));
                if attempts >= self.max_attempts {
                    return ItemDecision::Quarantine;
                }
                let at = now.after(self.backoff_delay(attempts.max(1), failure, sample));
                let counts = ItemFailureCounts {
                    failed_attempts: attempts,
                    strikes: strikes.count(),
                    ..counts
                };
                ItemDecision::Retry { failures: counts, at }
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

    /// Returns the delay with this number (from 1), each twice as long as the one before, with
    /// jitter over its upper half; never below the Retry-After.
    fn backoff_delay(&self, number: u32, failure: &Failure, sample: RandomSample) -> Duration {
        let capped = doubled_delay(self.retry_delay, number - 1, self.max_retry_delay);
        capped.mul_f64(0.5 + sample.fraction() / 2.0).max(failure.retry_after.unwrap_or_default())
    }
}

impl RecheckPolicy {
    /// Recheck without delay.
    pub const IMMEDIATE: Self = Self { interval: Duration::ZERO, max_interval: Duration::ZERO };

    /// Returns the time of the recheck of an item that is quarantined now for `cause`, after
    /// earlier quarantines without a success in between.
    #[must_use]
    pub fn next_recheck_at(
        &self,
        cause: Cause,
        earlier_quarantines: u32,
        now: Timestamp,
    ) -> Timestamp {
        now.after(self.delay(cause, earlier_quarantines))
    }

    /// Returns the delay before a recheck. It grows for a forbidden or too large item, which stays
    /// so until a user changes something; servers are repaired within days.
    fn delay(&self, cause: Cause, earlier_quarantines: u32) -> Duration {
        match cause.category() {
            ErrorCategory::Permanent => {
                let max = self.max_interval.max(self.interval);
                doubled_delay(self.interval, earlier_quarantines, max)
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
    use crate::ThrottleStrikes;

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
        let failing_since = Some(NOW);
        ItemDecision::Retry {
            failures: ItemFailureCounts { failing_since, ..failures(attempts, requests) },
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
            let rechecks = (0..5).map(|count| POLICY.recheck.next_recheck_at(cause, count, NOW));
            rechecks.map(|recheck_at| recheck_at.since(NOW).as_secs() / 86_400).collect::<Vec<_>>()
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

    /// FAULTS 50: the server throttles one item again and again.
    #[test]
    fn an_item_throttled_alone_backs_off_and_is_quarantined() {
        let mut strikes = ThrottleStrikes::default();
        let mut counts = ItemFailureCounts::default();
        let decisions: Vec<ItemDecision> = (0..5)
            .map(|round| {
                // Between two of its throttles another request succeeds.
                strikes = strikes.with_throttle(2 * round, (2 * round).checked_sub(1));
                let failure = Failure::new(Cause::RateLimit, "429")
                    .with_retry_after(Some(Duration::from_secs(60)))
                    .with_strikes(Some(strikes));
                let decision = POLICY.on_failure(&failure, counts, NOW, MAX_SAMPLE);
                if let ItemDecision::Retry { failures: next, .. } = decision {
                    counts = next;
                }
                decision
            })
            .collect();

        let retry = |attempts, strikes| {
            let counts = ItemFailureCounts { strikes, ..failures(attempts, 0) };
            ItemDecision::Retry { failures: counts, at: Timestamp(1_060_000) }
        };
        let quarantine = ItemDecision::Quarantine;
        assert_eq!(
            decisions,
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
            let decision = POLICY.on_failure(&failure, failures(attempts, 5), NOW, MAX_SAMPLE);
            assert_eq!(decision, expected_retry(attempts, 6, 1_010_000));
        }
    }

    /// FAULTS 31: one item fails permanently, and its attempts are cut short.
    #[test]
    fn cut_short_attempts_end_in_quarantine() {
        let failure =
            Failure { is_retry_budget_exhausted: true, ..Failure::new(Cause::Timeout, "x") };
        let mut counts = ItemFailureCounts::default();

        for _ in 1..POLICY.max_requests {
            match POLICY.on_failure(&failure, counts, NOW, MAX_SAMPLE) {
                ItemDecision::Retry { failures: next, .. } => counts = next,
                decision @ (ItemDecision::Gone
                | ItemDecision::Quarantine
                | ItemDecision::NotCharged) => {
                    panic!("{decision:?} after {counts:?}")
                }
            }
        }

        assert_eq!(POLICY.on_failure(&failure, counts, NOW, MAX_SAMPLE), ItemDecision::Quarantine);
    }

    #[test]
    fn retry_after_applies_to_an_item_too() {
        let failure =
            Failure::new(Cause::Server, "x").with_retry_after(Some(Duration::from_secs(100)));

        let decision =
            POLICY.on_failure(&failure, ItemFailureCounts::default(), NOW, RandomSample(0));

        assert_eq!(decision, expected_retry(1, 1, 1_100_000));
    }
}
