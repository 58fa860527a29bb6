//! Whose failure it is: the item's, or the provider's.

use super::{Downloads, Errand};
use crate::engine::{Failure, Moment, Scope, Verdict};

impl Downloads {
    /// Whether the failure of an errand counts as its item's own, and not against the provider.
    pub(in crate::worker) fn is_own_failure(
        &self,
        errand: &Errand,
        failure: &Failure,
        failed_at: Moment,
    ) -> bool {
        match failure.cause.verdict(Scope::Item) {
            Verdict::Retry | Verdict::RetryCautiously | Verdict::Suspect | Verdict::Quarantine => {
                let since = match (errand.failing_since, failure.requests) {
                    (Some(since), _) => since,
                    (None, 0 | 1) => failed_at,
                    // It failed before within this attempt.
                    (None, 2..) => failed_at.before(failure.failing_for()),
                };
                self.successes.is_own_failure(errand.item.0, Some(since))
            }
            Verdict::Wait if failure.is_own_throttle() => true,
            Verdict::Gone
            | Verdict::Wait
            | Verdict::Renew
            | Verdict::LongWait
            | Verdict::SwitchProxy
            | Verdict::CollectInFull
            | Verdict::ListAgain
            | Verdict::WaitForNetwork
            | Verdict::WaitForStorage => false,
        }
    }

    /// Whether one more failure of an item would be a failure of the session.
    pub(in crate::worker) fn would_escalate(&self, errand: &Errand, failure: &Failure) -> bool {
        self.bridge.is_on_the_edge(self.policies.bridge, errand.item.0, failure)
    }

    /// Notes that a document that is stored, asked for at `sent`, was served again.
    pub(in crate::worker) fn served_known_good(&mut self, sent: Moment, now: Moment) {
        self.successes.note(None, sent);
        self.succeeded(now);
    }
}
