//! The judgement of a failure: the item's own, or the provider's.

use super::{Downloads, Errand};
use crate::engine::{Failure, Moment, Scope, Verdict};

impl Downloads {
    /// Tells whether the failure of an errand counts as its item's own, and not against the provider.
    pub(in crate::worker) fn is_own_failure(
        &self,
        errand: &Errand,
        failure: &Failure,
        failed_at: Moment,
    ) -> bool {
        let verdict = failure.cause.verdict(Scope::Item);
        let is_blamed = matches!(
            verdict,
            Verdict::Retry | Verdict::RetryCautiously | Verdict::Suspect | Verdict::Quarantine
        );
        let since = match (errand.failing_since, failure.requests) {
            (Some(since), _) => since,
            (None, 0 | 1) => failed_at,
            // It failed before within this attempt.
            (None, 2..) => failed_at.before(failure.failing_for()),
        };
        failure.is_own_throttle()
            || is_blamed && self.successes.is_own_failure(errand.item.0, Some(since))
    }

    /// Tells whether one more failure of an item would be a failure of the session.
    pub(in crate::worker) fn would_escalate(&self, errand: &Errand, failure: &Failure) -> bool {
        self.bridge.is_on_the_edge(self.policies.bridge, errand.item.0, failure)
    }

    /// Notes that a document that is stored, asked for at `sent`, was served again.
    pub(in crate::worker) fn served_known_good(&mut self, sent: Moment, now: Moment) {
        self.successes.note(None, sent);
        self.succeeded(now);
    }
}
