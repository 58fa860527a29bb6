//! Observers of the event loop: circuit breakers, metrics and trace.
//!
//! The HTTP client informs the rate limiter itself, about every attempt of a request.

use std::sync::Arc;
use std::time::Duration;

use cynosure_engine::metrics::{ItemTotals, SourceMetrics, add_saturating};
use cynosure_engine::{Effect, Failure, StateMachine, Step, Timestamp};

use crate::ledger::{ItemRowId, SessionCounts};
use crate::source::MetricsHandle;
use crate::source::http::ProxyPoolHealth;
use crate::worker::breakers::{CallPermit, SourceBreakers};
use crate::worker::commit_batch::BatchStats;
use crate::worker::request_result::{RequestKind, RequestResult};
use crate::worker::tracer::Tracer;

/// Observers of one source. Metrics and trace influence no decision of the loop.
#[derive(Debug)]
pub struct Observers {
    breakers: SourceBreakers,
    /// Metrics of the loop and of the source.
    pub(super) metrics: MetricsHandle,
    tracer: Tracer,
    /// Proxies that the source uses.
    proxies: Option<Arc<ProxyPoolHealth>>,
}

impl Observers {
    #[must_use]
    pub fn new(
        breakers: SourceBreakers,
        metrics: MetricsHandle,
        tracer: Tracer,
        proxies: Option<Arc<ProxyPoolHealth>>,
    ) -> Self {
        Self { breakers, metrics, tracer, proxies }
    }

    pub(super) fn on_start(&self) {
        self.metrics.update(SourceMetrics::record_start);
    }

    pub(super) fn on_restart(&self) {
        self.metrics.update(|metrics| add_saturating(&mut metrics.lifecycle.restarts, 1));
    }

    /// Counts the changes of a step of the machine.
    pub(super) fn on_step(&self, before: &StateMachine, step: &Step, now: Timestamp) {
        let next = &step.machine;
        let errors = next.errors.total.saturating_sub(before.errors.total);
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

    /// Traces the state that the machine has left, once the next one is saved.
    pub(super) fn on_transition(
        &self,
        before: &StateMachine,
        after: &StateMachine,
        now: Timestamp,
    ) {
        self.tracer.on_transition(before, after, now);
    }

    /// Records the result of a request on which decisions depend.
    pub(super) fn on_request(
        &self,
        result: RequestResult<'_>,
        machine: &StateMachine,
        now: Timestamp,
    ) {
        match (result.kind, result.failure) {
            (_, Some(failure)) => self.breakers.record_storage_failure(failure),
            (RequestKind::Commit, None) => self.breakers.record_storage_success(),
            (RequestKind::Page | RequestKind::Ledger, None) => {
                self.breakers.record_ledger_success();
            }
            (
                RequestKind::Poll
                | RequestKind::PollWithChanges
                | RequestKind::Probe
                | RequestKind::Fetch(_)
                | RequestKind::Credential,
                None,
            ) => {}
        }
        self.on_late_request(result, machine, now);
    }

    /// Records the result of a request that ended during the shutdown: the breakers of ledger and
    /// archive are not informed of it.
    pub(super) fn on_late_request(
        &self,
        result: RequestResult<'_>,
        machine: &StateMachine,
        now: Timestamp,
    ) {
        match result.kind {
            RequestKind::Poll | RequestKind::Page | RequestKind::Probe => {
                self.record_attempt(result.failure);
            }
            // A fetch is counted once its failure is attributed.
            RequestKind::PollWithChanges
            | RequestKind::Fetch(_)
            | RequestKind::Credential
            | RequestKind::Commit
            | RequestKind::Ledger => {}
        }
        self.tracer.record_request(machine, result, now);
    }

    /// Records a fetch that succeeded, or whose failure is attributed to the provider.
    pub(super) fn on_fetch(&self, permit: CallPermit, item: ItemRowId, failure: Option<&Failure>) {
        self.record_attempt(failure);
        permit.record_item_result(item.0, failure);
    }

    /// Records a fetch that failed because of its item: it is counted for nothing else.
    pub(super) fn on_item_failure(&self, permit: CallPermit) {
        permit.record_neutral();
    }

    /// Records that a document which the provider served before was served again.
    pub(super) fn on_known_good_served(&self) {
        self.breakers.clear_provider_failures();
    }

    pub(super) fn on_batch_committed(&self, stats: BatchStats, duration: Duration) {
        self.metrics.update(|metrics| {
            let items = &mut metrics.items;
            add_saturating(&mut items.documents_stored, stats.documents);
            add_saturating(&mut items.bytes_stored, stats.bytes);
            add_saturating(&mut items.failed_attempts, stats.failed_items);
            items.commit_duration.record(duration);
        });
    }

    /// Counts the increase of the counts of a session.
    pub(super) fn on_counts(&self, before: SessionCounts, after: SessionCounts) {
        let (before, after) = (item_totals(before), item_totals(after));
        self.metrics.update(|metrics| metrics.record_item_totals(before, after));
    }

    /// Returns the metrics, which include those of the proxies now.
    pub(super) fn metrics_snapshot(&self) -> Box<SourceMetrics> {
        let proxies = self.proxies.as_ref().map(|proxies| proxies.metrics());
        self.metrics.update(|metrics| metrics.proxies = proxies);
        self.metrics.snapshot()
    }

    fn record_attempt(&self, failure: Option<&Failure>) {
        let cause = failure.map(|failure| failure.cause);
        self.metrics.update(|metrics| metrics.record_attempt(cause));
    }
}

fn item_totals(counts: SessionCounts) -> ItemTotals {
    let SessionCounts { listed, stored, gone, quarantined, .. } = counts;
    ItemTotals { listed, stored, gone, quarantined }
}
