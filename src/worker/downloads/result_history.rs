//! History of the results of tasks, on which the attribution of failures depends.

use cynosure_engine::{ItemFailureEscalation, RecentSuccesses, Timestamp};

use super::fetch_task::ThrottledDocuments;

/// Results so far, by which a failure is attributed to an item, the provider or the session.
#[derive(Debug)]
pub(super) struct ResultHistory {
    pub escalation: ItemFailureEscalation,
    pub successes: RecentSuccesses,
    pub throttled_documents: ThrottledDocuments,
}

impl ResultHistory {
    /// Creates a history that knows the newest success of an earlier run.
    pub(super) fn restore(last_success_at: Option<Timestamp>) -> Self {
        Self {
            escalation: ItemFailureEscalation::default(),
            successes: RecentSuccesses::restore(last_success_at),
            throttled_documents: ThrottledDocuments::default(),
        }
    }
}
