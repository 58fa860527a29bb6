//! The judgement of a failure: the item's own, or the provider's.

use super::{DownloadScheduler, FetchTask};
use crate::engine::{ErrorAction, Failure, RequestScope, Timestamp};

impl DownloadScheduler {
    /// Tells whether the failure of an errand counts as its item's own, and not against the provider.
    pub(in crate::worker) fn is_item_specific_failure(
        &self,
        errand: &FetchTask,
        failure: &Failure,
        failed_at: Timestamp,
    ) -> bool {
        let verdict = failure.cause.action(RequestScope::Item);
        let is_blamed = matches!(
            verdict,
            ErrorAction::Retry
                | ErrorAction::RetryConservatively
                | ErrorAction::RetryAsChallenge
                | ErrorAction::Quarantine
        );
        let since = match (errand.failing_since, failure.request_count) {
            (Some(since), _) => since,
            (None, 0 | 1) => failed_at,
            // It failed before within this attempt.
            (None, 2..) => failed_at.before(failure.failing_duration()),
        };
        failure.is_item_specific_throttle()
            || is_blamed && self.successes.is_item_specific_failure(errand.item.0, Some(since))
    }

    /// Tells whether one more failure of an item would be a failure of the session.
    pub(in crate::worker) fn would_escalate(&self, errand: &FetchTask, failure: &Failure) -> bool {
        self.escalator.would_escalate(self.policies.escalation, errand.item.0, failure)
    }

    /// Notes that a document that is stored, asked for at `sent`, was served again.
    pub(in crate::worker) fn record_known_good(&mut self, sent: Timestamp, now: Timestamp) {
        self.successes.record(None, sent);
        self.record_success(now);
    }
}
