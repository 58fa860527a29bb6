//! Escalation of item failures to a session failure.
//!
//! A single failing item says nothing about the source. If different items fail in a row, the
//! source is down or blocks this client. [`FailureEscalator`] counts consecutive failures and
//! reports when they amount to a session failure.

use std::collections::BTreeSet;

use crate::engine::{Cause, ErrorAction, Failure, RequestScope};

/// Different items forbidden in a row that mean a refused credential; so many are no coincidence.
const FORBIDDEN_ITEMS_THRESHOLD: usize = 10;

/// Consecutive challenges that mean that the source blocks this client.
const CHALLENGES_THRESHOLD: u32 = 3;

/// Thresholds for the escalation of item failures.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct EscalationPolicy {
    /// Different items that fail in a row before the source counts as down; at least 1.
    pub failure_threshold: usize,
    /// Consecutive successes after which the source counts as healthy again.
    pub success_threshold: u32,
}

/// Counters of consecutive failures, by kind.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct FailureEscalator {
    failing_items: BTreeSet<i64>,
    forbidden_items: BTreeSet<i64>,
    consecutive_challenges: u32,
    /// Successes still required after a session failure; until then, one request at a time.
    successes_required: u32,
}

impl FailureEscalator {
    /// Records a success, which shows that the earlier failures were specific to their items.
    pub fn record_success(&mut self) {
        *self = Self {
            successes_required: self.successes_required.saturating_sub(1),
            ..Self::default()
        };
    }

    /// Enters the half-open state before the retry of a failed session.
    pub fn enter_half_open(&mut self, policy: EscalationPolicy) {
        *self = Self { successes_required: policy.success_threshold, ..Self::default() };
    }

    /// True while successes are still required, one request at a time.
    #[must_use]
    pub fn is_half_open(&self) -> bool {
        self.successes_required > 0
    }

    /// Returns true if [`record_failure`](Self::record_failure) would escalate this failure, for
    /// retryable failures and challenges only.
    #[must_use]
    pub fn would_escalate(&self, policy: EscalationPolicy, item: i64, failure: &Failure) -> bool {
        let action = failure.cause.action(RequestScope::Item);
        if action == ErrorAction::RetryAsChallenge {
            return self.consecutive_challenges + 1 >= CHALLENGES_THRESHOLD;
        }
        let failing_count =
            self.failing_items.len() + usize::from(!self.failing_items.contains(&item));
        matches!(action, ErrorAction::Retry | ErrorAction::RetryConservatively)
            && failing_count >= policy.failure_threshold
    }

    /// Records an item failure; returns the session failure if it escalates.
    pub fn record_failure(
        &mut self,
        policy: EscalationPolicy,
        item: i64,
        failure: &Failure,
    ) -> Option<Failure> {
        match failure.cause.action(RequestScope::Item) {
            // Other requests succeed.
            ErrorAction::WaitForRateLimit if failure.is_item_specific_throttle() => None,
            ErrorAction::WaitForRateLimit
            | ErrorAction::RefreshCredential
            | ErrorAction::RetryMuchLater
            | ErrorAction::SwitchProxy
            | ErrorAction::FullResync
            | ErrorAction::RestartListing
            | ErrorAction::WaitForNetwork
            | ErrorAction::WaitForStorage => Some(failure.clone()),
            // The source responded and knows its items.
            ErrorAction::MarkGone => {
                self.record_success();
                None
            }
            ErrorAction::Quarantine if failure.cause == Cause::Forbidden => {
                self.forbidden_items.insert(item);
                (self.forbidden_items.len() >= FORBIDDEN_ITEMS_THRESHOLD).then(|| {
                    let message = format!(
                        "{FORBIDDEN_ITEMS_THRESHOLD} different items in a row are forbidden: {failure}"
                    );
                    let response = failure.response.clone();
                    Failure { response, ..Failure::new(Cause::Unauthorized, message) }
                })
            }
            ErrorAction::Quarantine => None,
            ErrorAction::RetryAsChallenge => {
                self.consecutive_challenges += 1;
                (self.consecutive_challenges >= CHALLENGES_THRESHOLD).then(|| failure.clone())
            }
            ErrorAction::Retry | ErrorAction::RetryConservatively => {
                self.failing_items.insert(item);
                (self.failing_items.len() >= policy.failure_threshold).then(|| failure.clone())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: EscalationPolicy =
        EscalationPolicy { failure_threshold: 5, success_threshold: 3 };

    fn escalations(
        escalator: &mut FailureEscalator,
        cause: Cause,
        items: impl Iterator<Item = i64>,
    ) -> Vec<bool> {
        items
            .map(|item| escalator.record_failure(POLICY, item, &Failure::new(cause, "x")).is_some())
            .collect()
    }

    #[test]
    fn five_distinct_item_failures_escalate_to_the_session() {
        let escalated = escalations(&mut FailureEscalator::default(), Cause::Server, 1..=5);

        assert_eq!(escalated, [false, false, false, false, true]);
    }

    #[test]
    fn one_failing_item_never_escalates() {
        let escalated = escalations(
            &mut FailureEscalator::default(),
            Cause::Server,
            std::iter::repeat_n(7, 100),
        );

        assert!(!escalated.contains(&true));
    }

    #[test]
    fn a_success_resets_the_streak() {
        let mut escalator = FailureEscalator::default();

        assert!(!escalations(&mut escalator, Cause::Server, 1..=4).contains(&true));
        escalator.record_success();
        assert!(!escalations(&mut escalator, Cause::Server, 5..=8).contains(&true));
    }

    #[test]
    fn ten_forbidden_items_in_a_row_are_an_auth_failure() {
        let mut escalator = FailureEscalator::default();
        assert!(!escalations(&mut escalator, Cause::Forbidden, 1..=9).contains(&true));

        let failure = escalator.record_failure(POLICY, 10, &Failure::new(Cause::Forbidden, "403"));

        assert_eq!(failure.map(|failure| failure.cause), Some(Cause::Unauthorized));
    }

    #[test]
    fn three_challenges_in_a_row_escalate() {
        let escalated = escalations(
            &mut FailureEscalator::default(),
            Cause::Challenge,
            std::iter::repeat_n(7, 3),
        );

        assert_eq!(escalated, [false, false, true]);
    }

    #[test]
    fn a_session_failure_requires_three_successes() {
        let mut escalator = FailureEscalator::default();

        escalator.enter_half_open(POLICY);
        let half_open: Vec<_> = (0..4)
            .map(|_| {
                let is_half_open = escalator.is_half_open();
                escalator.record_success();
                is_half_open
            })
            .collect();

        assert_eq!(half_open, [true, true, true, false]);
    }
}

#[cfg(test)]
mod proptests {
    use super::*;
    use proptest::prelude::*;

    /// Generates a success (`None`) or an item failure.
    fn outcome() -> impl Strategy<Value = Option<(i64, Cause)>> {
        let is_counted = |cause: &Cause| {
            let action = cause.action(RequestScope::Item);
            matches!(
                action,
                ErrorAction::Retry
                    | ErrorAction::RetryConservatively
                    | ErrorAction::RetryAsChallenge
            )
        };
        let causes: Vec<_> = Cause::ALL.into_iter().filter(is_counted).collect();
        let failure = (0..8_i64, prop::sample::select(causes)).prop_map(Some);
        prop_oneof![1 => Just(None), 6 => failure]
    }

    proptest! {
        #[test]
        fn would_escalate_predicts_the_next_failure(
            failure_threshold in 1..=8_usize,
            outcomes in prop::collection::vec(outcome(), 0..60),
        ) {
            let policy = EscalationPolicy { failure_threshold, success_threshold: 3 };
            let mut escalator = FailureEscalator::default();
            for outcome in outcomes {
                let Some((item, cause)) = outcome else {
                    escalator.record_success();
                    continue;
                };
                let failure = Failure::new(cause, "x");
                let predicted = escalator.would_escalate(policy, item, &failure);
                let escalated = escalator.record_failure(policy, item, &failure);
                prop_assert_eq!(predicted, escalated.is_some(), "{:?}", escalator);
            }
        }
    }
}
