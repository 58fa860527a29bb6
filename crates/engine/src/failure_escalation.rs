//! Escalation of item failures to a session failure.
//!
//! A single failing item says nothing about the source. Some causes concern the whole session,
//! though, and others do if they occur in a row. Outages of the provider are not among them:
//! consecutive failures of its items are counted by its circuit breaker.

use std::collections::BTreeSet;

use crate::{Cause, ErrorAction, Failure, RequestScope};

/// Different items forbidden in a row that mean a refused credential; so many are no coincidence.
const FORBIDDEN_ITEMS_THRESHOLD: usize = 10;

/// Consecutive challenges that mean that the source blocks this client.
const CHALLENGES_THRESHOLD: u32 = 3;

/// Rules by which item failures become a session failure, with their counts.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ItemFailureEscalation {
    forbidden_items: BTreeSet<i64>,
    consecutive_challenges: u32,
}

impl ItemFailureEscalation {
    /// Records a success, which shows that the earlier failures were specific to their items.
    pub fn record_success(&mut self) {
        *self = Self::default();
    }

    /// Returns true if [`record_failure`](Self::record_failure) would escalate this failure because
    /// of the challenges before it.
    #[must_use]
    pub fn would_escalate(&self, failure: &Failure) -> bool {
        failure.cause.action(RequestScope::Item) == ErrorAction::RetryAsChallenge
            && self.consecutive_challenges + 1 >= CHALLENGES_THRESHOLD
    }

    /// Records an item failure; returns the session failure if it escalates.
    pub fn record_failure(&mut self, item: i64, failure: &Failure) -> Option<Failure> {
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
            ErrorAction::RetryAsChallenge => {
                self.consecutive_challenges += 1;
                (self.consecutive_challenges >= CHALLENGES_THRESHOLD).then(|| failure.clone())
            }
            // The circuit breaker counts failures of the provider.
            ErrorAction::Quarantine | ErrorAction::Retry | ErrorAction::RetryConservatively => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::breaker::HealthSignal;

    fn escalations(
        escalation: &mut ItemFailureEscalation,
        cause: Cause,
        items: impl Iterator<Item = i64>,
    ) -> Vec<bool> {
        items
            .map(|item| escalation.record_failure(item, &Failure::new(cause, "x")).is_some())
            .collect()
    }

    #[test]
    fn retryable_failures_are_those_that_the_breaker_counts() {
        for cause in Cause::ALL {
            let is_retryable = matches!(
                cause.action(RequestScope::Item),
                ErrorAction::Retry | ErrorAction::RetryConservatively
            );
            let signal = HealthSignal::for_provider(cause, RequestScope::Item);

            assert_eq!(is_retryable, signal == HealthSignal::Failure, "{cause}");
            if is_retryable {
                let mut escalation = ItemFailureEscalation::default();
                assert!(!escalations(&mut escalation, cause, 1..=100).contains(&true), "{cause}");
            }
        }
    }

    #[test]
    fn a_success_resets_the_counts() {
        let mut escalation = ItemFailureEscalation::default();

        for cause in [Cause::Forbidden, Cause::Challenge] {
            assert!(!escalations(&mut escalation, cause, 1..=2).contains(&true));
        }
        escalation.record_success();

        assert_eq!(escalation, ItemFailureEscalation::default());
    }

    #[test]
    fn ten_forbidden_items_in_a_row_are_an_auth_failure() {
        let mut escalation = ItemFailureEscalation::default();
        assert!(!escalations(&mut escalation, Cause::Forbidden, 1..=9).contains(&true));

        let failure = escalation.record_failure(10, &Failure::new(Cause::Forbidden, "403"));

        assert_eq!(failure.map(|failure| failure.cause), Some(Cause::Unauthorized));
    }

    #[test]
    fn three_challenges_in_a_row_escalate() {
        let escalated = escalations(
            &mut ItemFailureEscalation::default(),
            Cause::Challenge,
            std::iter::repeat_n(7, 3),
        );

        assert_eq!(escalated, [false, false, true]);
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
            outcomes in prop::collection::vec(outcome(), 0..60),
        ) {
            let mut escalation = ItemFailureEscalation::default();
            for outcome in outcomes {
                let Some((item, cause)) = outcome else {
                    escalation.record_success();
                    continue;
                };
                let failure = Failure::new(cause, "x");
                let predicted = escalation.would_escalate(&failure);
                let escalated = escalation.record_failure(item, &failure);
                prop_assert_eq!(predicted, escalated.is_some(), "{:?}", escalation);
            }
        }
    }
}
