//! Attribution of failures to the item or the provider.

use cynosure_engine::{ErrorAction, Failure, ItemFailureEscalation, RequestScope, Timestamp};

use super::{DownloadScheduler, FetchTask};

impl DownloadScheduler {
    /// Returns true if a failure is attributed to the item of the task, and not to the provider.
    pub(in crate::worker) fn is_item_specific_failure(
        &self,
        task: &FetchTask,
        failure: &Failure,
        failed_at: Timestamp,
    ) -> bool {
        let action = failure.cause.action(RequestScope::Item);
        let is_attributable = matches!(
            action,
            ErrorAction::Retry
                | ErrorAction::RetryConservatively
                | ErrorAction::RetryAsChallenge
                | ErrorAction::Quarantine
        );
        let since = match (task.failing_since, failure.request_count) {
            (Some(since), _) => since,
            (None, 0 | 1) => failed_at,
            // Its first request failed before, within the same attempt.
            (None, 2..) => failed_at.before(failure.failing_duration()),
        };
        failure.is_item_specific_throttle()
            || is_attributable
                && self.history.successes.is_item_specific_failure(task.item.0, Some(since))
    }

    /// Returns true if one more challenge would become a failure of the session.
    pub(in crate::worker) fn would_escalate(&self, failure: &Failure) -> bool {
        self.history.escalation.would_escalate(failure)
    }

    /// Clears the counts of failures, since the failed session is tried again.
    pub(in crate::worker) fn reset_escalation(&mut self) {
        self.history.escalation = ItemFailureEscalation::default();
    }

    /// Records that a stored document, requested at `sent_at`, was served again.
    pub(in crate::worker) fn record_known_good(&mut self, sent_at: Timestamp, now: Timestamp) {
        self.history.successes.record(None, sent_at);
        self.record_success(now);
    }

    pub(super) fn commit_forbidden(&mut self, now: Timestamp) {
        for outcome in std::mem::take(&mut self.pending_forbidden) {
            self.batch.push(outcome, now);
        }
    }

    /// Releases the forbidden items, since they may not be at fault where the session fails.
    pub(in crate::worker) fn release_forbidden(&mut self) {
        for outcome in std::mem::take(&mut self.pending_forbidden) {
            if let Some(item) = outcome.item() {
                self.release_item(item);
            }
        }
    }
}
