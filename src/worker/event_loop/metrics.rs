//! Metrics of the event loop. No decision depends on them.

use std::time::Duration;

use super::EventLoop;
use crate::engine::metrics::{ItemTotals, add_saturating};
use crate::engine::{Cause, Effect, Failure, StateMachine, Step, Timestamp};
use crate::ledger::SessionCounts;
use crate::source::{PollResult, Source};
use crate::worker::commit_batch::BatchStats;
use crate::worker::env::Env;
use crate::worker::tasks::TaskResult;

impl<S: Source + 'static, E: Env> EventLoop<S, E> {
    /// Counts the changes of a step of the machine.
    pub(super) fn record_step(&self, before: &StateMachine, step: &Step, now: Timestamp) {
        let next = &step.machine;
        let errors = next.error_count.saturating_sub(before.error_count);
        let has_status_changed = before.status() != next.status();
        let is_session_closed =
            step.effects.iter().any(|effect| matches!(effect, Effect::CloseSession));
        self.metrics.update(|metrics| {
            metrics.advance_to(now);
            add_saturating(&mut metrics.lifecycle.errors, u64::from(errors));
            add_saturating(&mut metrics.lifecycle.sessions_completed, u64::from(is_session_closed));
            if has_status_changed {
                metrics.record_status(next.status());
            }
        });
    }

    /// Takes over the counts of the ledger, and adds the increase to the metrics.
    pub(super) fn update_counts(&mut self, counts: SessionCounts) {
        // Lower counts belong to another session, which has listed something.
        let is_other_session = counts.listed < self.counts.listed;
        let before = if is_other_session { SessionCounts::default() } else { self.counts };
        let (before, after) = (item_totals(before), item_totals(counts));
        self.counts = counts;
        self.metrics.update(|metrics| metrics.record_item_totals(before, after));
    }

    /// Counts a committed batch.
    pub(super) fn record_batch(&self, stats: BatchStats, duration: Duration) {
        self.metrics.update(|metrics| {
            let items = &mut metrics.items;
            add_saturating(&mut items.documents_stored, stats.documents);
            add_saturating(&mut items.bytes_stored, stats.bytes);
            add_saturating(&mut items.failed_attempts, stats.failed_items);
            items.commit_duration.record(duration);
        });
    }

    /// Counts the result of an attempt to poll, list or probe.
    pub(super) fn record_attempt(&self, result: &TaskResult) {
        let cause = |failure: &Failure| failure.cause;
        let failure_cause: Option<Cause> = match result {
            // Changes may be known without a request.
            TaskResult::Polled(Ok(PollResult::Changed)) => return,
            TaskResult::Polled(result) => result.as_ref().err().map(cause),
            TaskResult::PageListed(result) => result.as_ref().err().map(cause),
            TaskResult::Probed(result) => result.as_ref().err().map(cause),
            // Counted once the failure is attributed.
            TaskResult::Fetched { .. } => return,
            TaskResult::KnownGoodFetched(_)
            | TaskResult::DueItemsLoaded(_)
            | TaskResult::Committed { .. }
            | TaskResult::SessionFinished(_)
            | TaskResult::ReconcileDue
            | TaskResult::CredentialRefreshed(_)
            | TaskResult::BreakerOpen(_) => return,
        };
        self.metrics.update(|metrics| metrics.record_attempt(failure_cause));
    }
}

fn item_totals(counts: SessionCounts) -> ItemTotals {
    let SessionCounts { listed, stored, gone, quarantined, .. } = counts;
    ItemTotals { listed, stored, gone, quarantined }
}
