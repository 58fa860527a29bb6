//! Download scheduler: items that are queued, in flight, fetched, and not yet committed.
//!
//! An item is busy from the time when it is loaded from the ledger until its outcome is committed.
//! A cancelled item stays unsettled in the ledger and is loaded again: nothing here must survive.

mod attribution;
mod commits;
mod fetch_task;
mod item_in_progress;
mod queue;
mod refill;
mod result_history;

use std::collections::{BTreeMap, BTreeSet};

use cynosure_engine::{
    Cause, ClockStep, ErrorAction, Failure, ItemDecision, ItemFailureCounts, ItemRetryPolicy,
    RandomSample, RecheckPolicy, RequestScope, Timestamp,
};

use crate::archive::SpooledDocument;
use crate::ledger::{DueItem, ItemRowId};
use crate::source::MetricsHandle;
use crate::worker::commit_batch::{CommitBatch, DownloadOutcome};

use self::commits::RunningCommits;
pub(super) use self::fetch_task::{ControlRequest, FetchTask};
use self::item_in_progress::{DocumentResult, ItemInProgress, worse_failure};
use self::queue::FetchQueue;
pub(super) use self::queue::RefillRequest;
pub(super) use self::refill::IdleReason;
use self::refill::RefillState;
use self::result_history::ResultHistory;

/// Documents that are requested or fetched and not yet committed. A crash costs at most these.
const UNCOMMITTED_DOCUMENTS_MAX: usize = 512;

#[derive(Debug)]
pub(super) struct DownloadScheduler {
    item_policy: ItemRetryPolicy,
    history: ResultHistory,
    queue: FetchQueue,
    items_in_progress: BTreeMap<ItemRowId, ItemInProgress>,
    busy_items: BTreeSet<ItemRowId>,
    in_flight_count: usize,
    batch: CommitBatch,
    commits: RunningCommits,
    /// Forbidden items, pending until it is known if they or the credential are at fault.
    pending_forbidden: Vec<DownloadOutcome>,
    refill: RefillState,
    /// The last refill skipped busy items, or a commit followed: the ledger may have more items.
    is_ledger_view_stale: bool,
    metrics: MetricsHandle,
}

impl DownloadScheduler {
    /// Creates a scheduler that knows the newest success of an earlier run.
    pub(super) fn new(
        item_policy: ItemRetryPolicy,
        last_success_at: Option<Timestamp>,
        metrics: MetricsHandle,
    ) -> Self {
        Self {
            item_policy,
            history: ResultHistory::restore(last_success_at),
            queue: FetchQueue::new(),
            items_in_progress: BTreeMap::new(),
            busy_items: BTreeSet::new(),
            in_flight_count: 0,
            batch: CommitBatch::default(),
            commits: RunningCommits::default(),
            pending_forbidden: Vec::new(),
            refill: RefillState::Now,
            is_ledger_view_stale: false,
            metrics,
        }
    }

    /// Drops all queued and in-flight tasks. Results that were fetched are kept, to be committed.
    pub(super) fn drop_in_flight(&mut self) {
        self.queue.clear();
        self.items_in_progress.clear();
        self.in_flight_count = 0;
        self.refill = RefillState::Now;
        let outcomes = self.batch.outcomes.iter().chain(&self.pending_forbidden);
        let mut busy_items: BTreeSet<_> = outcomes.filter_map(DownloadOutcome::item).collect();
        busy_items.extend(self.commits.items());
        self.busy_items = busy_items;
    }

    /// Drops all queued tasks. Tasks in flight may finish.
    pub(super) fn cancel_queued(&mut self, now: Timestamp) {
        for task in self.queue.drain() {
            self.cancel(task.item, now);
        }
    }

    /// Returns true if a task is queued and `concurrency` allows one more.
    pub(super) fn has_next_task(&self, concurrency: usize) -> bool {
        self.in_flight_count < concurrency
            && self.uncommitted_documents() < UNCOMMITTED_DOCUMENTS_MAX
            && !self.batch.is_full()
            && self.queue.has_next(concurrency)
    }

    fn uncommitted_documents(&self) -> usize {
        self.in_flight_count + self.batch.documents() + self.commits.documents()
    }

    /// Takes the next task, if one may start.
    pub(super) fn take_task(&mut self, concurrency: usize, now: Timestamp) -> Option<FetchTask> {
        if !self.has_next_task(concurrency) {
            return None;
        }
        let mut task = self.queue.pop(concurrency)?;
        task.started_at = now;
        if self.history.throttled_documents.needs_control(task.document)
            && self.in_flight_count == 0
        {
            task.control = ControlRequest::Needed;
        }
        task.document_ref.is_suspect =
            self.history.successes.is_item_specific_failure(task.item.0, task.failing_since);
        if let Some(in_progress) = self.items_in_progress.get_mut(&task.item) {
            in_progress.started_at.get_or_insert(now);
        }
        self.in_flight_count += 1;
        Some(task)
    }

    /// Returns the request for a refill from the ledger, if one is due now.
    pub(super) fn take_refill_request(&mut self, now: Timestamp) -> Option<RefillRequest> {
        let may_have_untried = self.is_ledger_view_stale && !self.queue.has_untried();
        let is_due = match self.refill {
            RefillState::Now => self.queue.has_room() || may_have_untried,
            RefillState::At(at) => at <= now || may_have_untried,
            RefillState::Exhausted => may_have_untried,
            RefillState::Running => false,
        };
        is_due.then(|| {
            self.refill = RefillState::Running;
            self.is_ledger_view_stale = false;
            RefillRequest { limits: self.queue.request_limits(), skip: self.busy_items.clone() }
        })
    }

    /// Enqueues due items that the ledger returned, and schedules the next refill.
    pub(super) fn enqueue(
        &mut self,
        items: Vec<DueItem>,
        next_due: Option<Timestamp>,
        now: Timestamp,
    ) {
        let retries = items.iter().filter(|item| item.is_retry).count();
        self.refill = match (self.queue.record_loaded(items.len() - retries, retries), next_due) {
            (true, _) => RefillState::Now,
            // The ledger left items out because the contents of others are long.
            (false, Some(at)) if at <= now => {
                self.queue.reset_backlog();
                RefillState::Now
            }
            (false, Some(at)) => RefillState::At(at),
            (false, None) => RefillState::Exhausted,
        };
        for mut item in items {
            self.busy_items.insert(item.row_id);
            if item.documents.is_empty() {
                self.batch.push(DownloadOutcome::Completed { item: item.row_id }, now);
                continue;
            }
            let in_progress = ItemInProgress {
                failure_counts: item.failure_counts,
                started_at: None,
                outstanding: item.documents.len(),
                failed_documents: Vec::new(),
                worst_failure: None,
                is_cancelled: false,
            };
            self.items_in_progress.insert(item.row_id, in_progress);
            for document in std::mem::take(&mut item.documents) {
                let strikes = self
                    .history
                    .throttled_documents
                    .strikes(document.row_id, item.failure_counts.strikes);
                let task = FetchTask::new(&item, document, strikes, now);
                // A throttled document must not be the probe for whether the rate limit has reset.
                if strikes.count() == 0 {
                    self.queue.push(task);
                } else {
                    self.queue.push_throttled(task);
                }
            }
        }
    }

    /// Records the result of a task. Returns the failure of the session to which it escalates.
    pub(super) fn on_downloaded(
        &mut self,
        task: FetchTask,
        result: Result<SpooledDocument, Failure>,
        now: Timestamp,
        sample: RandomSample,
    ) -> Option<Failure> {
        let (item, document) = (task.item, task.document);
        self.in_flight_count = self.in_flight_count.saturating_sub(1);
        self.queue.record_completed(&task);
        match result.as_ref().map_err(|failure| failure.strikes) {
            Ok(_) => self.history.throttled_documents.record_success(document),
            Err(Some(strikes)) => {
                self.history.throttled_documents.record_throttle(document, strikes);
            }
            Err(None) => self.history.throttled_documents.record_failure(document, task.control),
        }
        match result {
            Ok(spooled) => {
                // After a backward clock step, the start of a task in flight is in the future.
                self.history.successes.record(Some(item.0), task.started_at.min(now));
                self.record_success(now);
                let FetchTask { item_id, expected_blob, document_ref, folders, .. } = task;
                self.batch.push(
                    DownloadOutcome::Stored {
                        document,
                        item_id,
                        expected_blob,
                        fetched: Box::new(document_ref),
                        folders,
                        spooled,
                    },
                    now,
                );
                self.close_document(item, DocumentResult::Settled, now);
                None
            }
            Err(failure) => self.on_failed(&task, failure, now, sample),
        }
    }

    fn on_failed(
        &mut self,
        task: &FetchTask,
        failure: Failure,
        now: Timestamp,
        sample: RandomSample,
    ) -> Option<Failure> {
        let (item, document) = (task.item, task.document);
        let escalated = if self.is_item_specific_failure(task, &failure, now) {
            None
        } else {
            self.history.escalation.record_failure(item.0, &failure)
        };
        let is_document_failure =
            failure.cause.action(RequestScope::Item) == ErrorAction::Quarantine;
        let mut failure_counts = self
            .items_in_progress
            .get(&item)
            .map_or_else(ItemFailureCounts::default, |in_progress| in_progress.failure_counts);
        // Counted from its first failed request: another request that is sent during its quick
        // retries and succeeds shows that the provider works.
        failure_counts.failing_since.get_or_insert_with(|| now.before(failure.failing_duration()));
        match self.item_policy.on_failure(&failure, failure_counts, now, sample) {
            ItemDecision::Gone => {
                self.commit_forbidden(now);
                self.history.throttled_documents.remove(document);
                let expected_blob = task.expected_blob.clone();
                let tried_locations = task.document_ref.locations.clone();
                let gone = DownloadOutcome::Gone { document, expected_blob, tried_locations };
                self.batch.push(gone, now);
                self.close_document(item, DocumentResult::Settled, now);
            }
            ItemDecision::NotCharged => self.cancel(item, now),
            ItemDecision::Retry { .. } | ItemDecision::Quarantine if is_document_failure => {
                self.close_document(item, DocumentResult::DocumentFailed(document, failure), now);
            }
            decision @ (ItemDecision::Retry { .. } | ItemDecision::Quarantine) => {
                if decision == ItemDecision::Quarantine {
                    self.history.throttled_documents.remove(document);
                }
                self.close_document(item, DocumentResult::ItemFailed(decision, failure), now);
            }
        }
        if escalated.is_some() {
            self.release_forbidden();
        }
        escalated
    }

    /// Takes the batch if its commit is due, or if nothing else is left to do.
    pub(super) fn take_due_batch(&mut self, now: Timestamp) -> Option<CommitBatch> {
        if self.commits.is_full() {
            return None;
        }
        if self.in_flight_count == 0 && self.queue.is_empty() {
            self.commit_forbidden(now);
        }
        let is_due = self.batch_due_at().is_some_and(|at| at <= now);
        let is_idle = self.in_flight_count == 0
            && self.queue.is_empty()
            && self.refill != RefillState::Running;
        if self.batch.is_empty() || !(is_due || is_idle || self.batch.is_full()) {
            return None;
        }
        self.take_batch()
    }

    /// Takes the batch, due or not.
    pub(super) fn take_batch(&mut self) -> Option<CommitBatch> {
        if self.batch.is_empty() {
            return None;
        }
        let batch = std::mem::take(&mut self.batch);
        self.commits.begin(&batch);
        Some(batch)
    }

    /// Records that the oldest batch is committed or lost. Its items may be loaded again.
    pub(super) fn on_committed(&mut self, items: &[ItemRowId], retry_at: Option<Timestamp>) {
        self.commits.end_oldest();
        self.is_ledger_view_stale = true;
        for item in items {
            self.busy_items.remove(item);
        }
        self.refill = match (self.refill, retry_at) {
            (RefillState::At(at), Some(retry)) => RefillState::At(at.min(retry)),
            (RefillState::Exhausted, Some(retry)) => RefillState::At(retry),
            (refill, _) => refill,
        };
    }

    /// Shifts the deadlines that are not committed yet, and the successes, by a clock step.
    pub(super) fn shift_by(&mut self, step: ClockStep) {
        self.batch.shift_by(step);
        self.history.successes.shift_by(step);
        self.pending_forbidden.iter_mut().for_each(|outcome| outcome.shift_by(step));
        for in_progress in self.items_in_progress.values_mut() {
            if let Some((ItemDecision::Retry { at, .. }, _)) = &mut in_progress.worst_failure {
                *at = at.shifted_by(step);
            }
        }
    }

    /// Requests a refill, since times or items in the ledger have changed.
    pub(super) fn request_refill(&mut self) {
        self.is_ledger_view_stale = true;
        self.queue.reset_backlog();
        match self.refill {
            RefillState::At(_) | RefillState::Exhausted => self.refill = RefillState::Now,
            RefillState::Now | RefillState::Running => {}
        }
    }

    /// Returns the policy for rechecks of quarantined items.
    pub(super) fn recheck_policy(&self) -> RecheckPolicy {
        self.item_policy.recheck
    }

    /// Returns the time at which the newest successful request for an item was sent.
    pub(super) fn last_success_at(&self) -> Option<Timestamp> {
        self.history.successes.newest_sent_at()
    }

    /// Returns true if all items that are left have failed before.
    pub(super) fn has_only_retries(&self) -> bool {
        let is_known = !self.is_ledger_view_stale && self.refill != RefillState::Running;
        let is_settled = self.is_drained() && self.refill == RefillState::Exhausted;
        is_known && !is_settled && !self.queue.has_untried()
    }

    /// Returns true if every loaded item has its result committed.
    fn is_drained(&self) -> bool {
        self.busy_items.is_empty()
            && self.in_flight_count == 0
            && self.commits.is_empty()
            && self.batch.is_empty()
    }

    /// Returns the reason why nothing is in flight or due; `None` if something is, or if a refill
    /// is to come.
    pub(super) fn idle_reason(&self) -> Option<IdleReason> {
        if self.is_ledger_view_stale || !self.is_drained() {
            return None;
        }
        match self.refill {
            RefillState::Exhausted => Some(IdleReason::AllSettled),
            RefillState::At(until) => Some(IdleReason::AwaitingRetry(until)),
            RefillState::Now | RefillState::Running => None,
        }
    }

    pub(super) fn in_flight(&self) -> usize {
        self.in_flight_count
    }

    /// Returns the time of the next refill.
    pub(super) fn next_refill_at(&self) -> Option<Timestamp> {
        match self.refill {
            RefillState::At(at) => Some(at),
            RefillState::Now | RefillState::Running | RefillState::Exhausted => None,
        }
    }

    /// Returns the time of the next commit; `None` while the maximum of commits is running.
    pub(super) fn batch_due_at(&self) -> Option<Timestamp> {
        self.batch.commit_due_at().filter(|_| !self.commits.is_full())
    }

    /// Records the result of one document. The last one completes the item.
    fn close_document(&mut self, item: ItemRowId, result: DocumentResult, now: Timestamp) {
        let Some(in_progress) = self.items_in_progress.get_mut(&item) else { return };
        in_progress.outstanding -= 1;
        match result {
            DocumentResult::Settled => {}
            DocumentResult::DocumentFailed(document, failure) => {
                in_progress.failed_documents.push((document, failure));
            }
            DocumentResult::ItemFailed(decision, failure) => {
                in_progress.worst_failure =
                    Some(worse_failure(in_progress.worst_failure.take(), (decision, failure)));
            }
        }
        self.finish_item_if_complete(item, now);
    }

    fn finish_item_if_complete(&mut self, item: ItemRowId, now: Timestamp) {
        if self.items_in_progress.get(&item).is_none_or(|in_progress| in_progress.outstanding > 0) {
            return;
        }
        let Some(in_progress) = self.items_in_progress.remove(&item) else { return };
        let is_forbidden = in_progress
            .failed_documents
            .iter()
            .any(|(_, failure)| failure.cause == Cause::Forbidden);
        let failed_documents = in_progress
            .failed_documents
            .into_iter()
            .map(|(document, failure)| DownloadOutcome::Failed { document, failure });
        let mut outcomes: Vec<DownloadOutcome> = failed_documents.collect();
        match in_progress.worst_failure {
            // Its missing documents are requested again; failures recorded meanwhile still count.
            None if in_progress.is_cancelled && outcomes.is_empty() => {
                self.release_item(item);
                return;
            }
            Some((ItemDecision::Retry { failures, at }, failure)) => {
                outcomes.push(DownloadOutcome::Retry {
                    item,
                    failure_counts: failures,
                    retry_at: at,
                    failure,
                });
            }
            Some((ItemDecision::Quarantine, failure)) => {
                outcomes.push(DownloadOutcome::Quarantined { item, failure });
            }
            None | Some((ItemDecision::Gone | ItemDecision::NotCharged, _)) => {
                if let Some(started_at) = in_progress.started_at {
                    self.metrics.update(|metrics| {
                        metrics.items.fetch_duration.record(now.since(started_at));
                    });
                }
                outcomes.push(DownloadOutcome::Completed { item });
            }
        }
        if is_forbidden {
            self.pending_forbidden.extend(outcomes);
            return;
        }
        for outcome in outcomes {
            self.batch.push(outcome, now);
        }
    }

    /// Cancels one document of the item, without a failure of the item.
    fn cancel(&mut self, item: ItemRowId, now: Timestamp) {
        let Some(in_progress) = self.items_in_progress.get_mut(&item) else { return };
        in_progress.outstanding -= 1;
        in_progress.is_cancelled = true;
        self.finish_item_if_complete(item, now);
    }

    fn release_item(&mut self, item: ItemRowId) {
        self.busy_items.remove(&item);
        self.queue.reset_backlog();
        match self.refill {
            // The refill in progress skips this item.
            RefillState::Running => self.is_ledger_view_stale = true,
            RefillState::Now | RefillState::At(_) | RefillState::Exhausted => {
                self.refill = RefillState::Now;
            }
        }
    }

    fn record_success(&mut self, now: Timestamp) {
        self.history.escalation.record_success();
        self.commit_forbidden(now);
    }
}

#[cfg(test)]
mod tests;
