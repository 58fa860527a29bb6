//! The bookkeeping of a download: what is queued, in flight, answered, and not yet durable.
//!
//! An item is busy from the moment it is taken from the ledger until what became
//! of it is committed there. Whatever is dropped on the way stays unsettled in the
//! ledger and is taken again: nothing here needs to survive.

mod attribution;
mod fetch_task;
mod item_in_progress;
mod queue;
mod refill;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::archive::SpooledDocument;
use crate::engine::{
    Cause, ClockStep, ErrorAction, EscalationPolicy, Failure, FailureEscalator, ItemDecision,
    ItemFailureCounts, ItemRetryPolicy, RandomSample, RecentSuccesses, RecheckPolicy, RequestScope,
    Timestamp,
};
use crate::ledger::{DueItem, ItemRowId};
use crate::source::MetricsHandle;
use crate::worker::commit_batch::{CommitBatch, DownloadOutcome};

use self::fetch_task::ThrottledDocuments;
pub(super) use self::fetch_task::{ControlRequest, FetchTask};
use self::item_in_progress::{DocumentResult, ItemInProgress, worse_failure};
use self::queue::FetchQueue;
pub(super) use self::queue::RefillRequest;
pub(super) use self::refill::IdleReason;
use self::refill::RefillState;

/// Groups that are made durable at a time: one is written while another is placed and recorded.
const CONCURRENT_COMMITS_MAX: usize = 2;

/// How items are judged.
#[derive(Clone, Debug)]
pub struct DownloadPolicies {
    pub item: ItemRetryPolicy,
    pub escalation: EscalationPolicy,
}

#[derive(Debug)]
pub(super) struct DownloadScheduler {
    policies: DownloadPolicies,
    escalator: FailureEscalator,
    successes: RecentSuccesses,
    queue: FetchQueue,
    items_in_progress: BTreeMap<ItemRowId, ItemInProgress>,
    busy_items: BTreeSet<ItemRowId>,
    throttled_documents: ThrottledDocuments,
    in_flight_count: usize,
    batch: CommitBatch,
    /// The items of each group that is being made durable, in the order in which they become so.
    committing: VecDeque<Vec<ItemRowId>>,
    /// Forbidden items, held back until it is known whether they or the credential are to blame.
    pending_forbidden: Vec<DownloadOutcome>,
    refill: RefillState,
    /// The ledger may know more by now than when it was asked: it passed over items that
    /// were busy, or something was settled since.
    is_ledger_view_stale: bool,
    metrics: MetricsHandle,
}

impl DownloadScheduler {
    /// Goes on with the newest success of an earlier life.
    pub(super) fn new(
        policies: DownloadPolicies,
        succeeded_at: Option<Timestamp>,
        meter: MetricsHandle,
    ) -> Self {
        Self {
            policies,
            escalator: FailureEscalator::default(),
            successes: RecentSuccesses::restore(succeeded_at),
            queue: FetchQueue::new(),
            items_in_progress: BTreeMap::new(),
            busy_items: BTreeSet::new(),
            throttled_documents: ThrottledDocuments::default(),
            in_flight_count: 0,
            batch: CommitBatch::default(),
            committing: VecDeque::new(),
            pending_forbidden: Vec::new(),
            refill: RefillState::Now,
            is_ledger_view_stale: false,
            metrics: meter,
        }
    }

    /// Forgets what is queued and in flight. What is answered stays, to be committed.
    pub(super) fn drop_in_flight(&mut self) {
        self.queue.clear();
        self.items_in_progress.clear();
        self.in_flight_count = 0;
        self.refill = RefillState::Now;
        let answered = self.batch.outcomes.iter().chain(&self.pending_forbidden);
        let mut kept: BTreeSet<_> = answered.filter_map(DownloadOutcome::item).collect();
        kept.extend(self.committing.iter().flatten());
        self.busy_items = kept;
    }

    /// Asks for nothing more; what is in flight may end and be kept.
    pub(super) fn cancel_queued(&mut self, now: Timestamp) {
        for errand in self.queue.drain() {
            self.cancel(errand.item, now);
        }
    }

    pub(super) fn enter_half_open(&mut self) {
        self.escalator.enter_half_open(self.policies.escalation);
    }

    /// Whether there is a document to fetch, and `concurrency` allows one more.
    pub(super) fn has_next_task(&self, concurrency: usize) -> bool {
        let limit = self.slot_limit(concurrency);
        self.in_flight_count < limit && !self.batch.is_full() && self.queue.has_next(limit)
    }

    fn slot_limit(&self, concurrency: usize) -> usize {
        if self.escalator.is_half_open() { 1 } else { concurrency }
    }

    /// Takes the next document to fetch, if it may be taken.
    pub(super) fn take_task(&mut self, concurrency: usize, now: Timestamp) -> Option<FetchTask> {
        if !self.has_next_task(concurrency) {
            return None;
        }
        let mut errand = self.queue.pop(self.slot_limit(concurrency))?;
        errand.started_at = now;
        if self.throttled_documents.needs_control(errand.document_no) && self.in_flight_count == 0 {
            errand.control = ControlRequest::Needed;
        }
        errand.document_ref.is_suspect =
            self.successes.is_item_specific_failure(errand.item.0, errand.failing_since);
        if let Some(open) = self.items_in_progress.get_mut(&errand.item) {
            open.started_at.get_or_insert(now);
        }
        self.in_flight_count += 1;
        Some(errand)
    }

    /// Returns what must be taken from the ledger now, if anything.
    pub(super) fn take_refill_request(&mut self, now: Timestamp) -> Option<RefillRequest> {
        let may_have_untried = self.is_ledger_view_stale && !self.queue.has_untried();
        let due = match self.refill {
            RefillState::Now => self.queue.has_room() || may_have_untried,
            RefillState::At(at) => at <= now || may_have_untried,
            RefillState::Exhausted => may_have_untried,
            RefillState::Running => false,
        };
        due.then(|| {
            self.refill = RefillState::Running;
            self.is_ledger_view_stale = false;
            RefillRequest { limits: self.queue.request_limits(), skip: self.busy_items.clone() }
        })
    }

    /// Takes in what is due, and when the next item is.
    pub(super) fn enqueue(
        &mut self,
        work: Vec<DueItem>,
        next_due: Option<Timestamp>,
        now: Timestamp,
    ) {
        let retries = work.iter().filter(|work| work.is_retry).count();
        self.refill = match (self.queue.record_loaded(work.len() - retries, retries), next_due) {
            (true, _) => RefillState::Now,
            (false, Some(at)) => RefillState::At(at),
            (false, None) => RefillState::Exhausted,
        };
        for mut work in work {
            self.busy_items.insert(work.row_id);
            if work.documents.is_empty() {
                self.batch.push(DownloadOutcome::Completed { item: work.row_id }, now);
                continue;
            }
            let open = ItemInProgress {
                failure_counts: work.failure_counts,
                started_at: None,
                outstanding: work.documents.len(),
                failed_documents: Vec::new(),
                worst_failure: None,
                is_cancelled: false,
            };
            self.items_in_progress.insert(work.row_id, open);
            for document in std::mem::take(&mut work.documents) {
                let strikes =
                    self.throttled_documents.strikes(document.row_id, work.failure_counts.strikes);
                let errand = FetchTask::new(&work, document, strikes, now);
                // A throttled document is not what finds out whether the quota is back.
                if strikes.count() == 0 {
                    self.queue.push(errand);
                } else {
                    self.queue.push_throttled(errand);
                }
            }
        }
    }

    /// Notes the answer to an errand; returns the failure of the session it amounts to.
    pub(super) fn on_downloaded(
        &mut self,
        errand: FetchTask,
        answer: Result<SpooledDocument, Failure>,
        now: Timestamp,
        draw: RandomSample,
    ) -> Option<Failure> {
        let (item, document) = (errand.item, errand.document_no);
        self.in_flight_count = self.in_flight_count.saturating_sub(1);
        self.queue.record_completed(&errand);
        match answer.as_ref().map_err(|failure| failure.strikes) {
            Ok(_) => self.throttled_documents.record_success(document),
            Err(Some(strikes)) => self.throttled_documents.record_throttle(document, strikes),
            Err(None) => self.throttled_documents.record_failure(document, errand.control),
        }
        match answer {
            Ok(draft) => {
                self.successes.record(Some(item.0), errand.started_at);
                self.record_success(now);
                let FetchTask { item_id, expected_blob: listed, document_ref: wanted, .. } = errand;
                self.batch.push(
                    DownloadOutcome::Stored {
                        document,
                        item_id,
                        expected_blob: listed,
                        fetched: wanted,
                        spooled: draft,
                    },
                    now,
                );
                self.close_document(item, DocumentResult::Settled, now);
                None
            }
            Err(failure) => self.on_failed(&errand, failure, now, draw),
        }
    }

    fn on_failed(
        &mut self,
        errand: &FetchTask,
        failure: Failure,
        now: Timestamp,
        draw: RandomSample,
    ) -> Option<Failure> {
        let (item, document) = (errand.item, errand.document_no);
        let escalated = if self.is_item_specific_failure(errand, &failure, now) {
            None
        } else {
            self.escalator.record_failure(self.policies.escalation, item.0, &failure)
        };
        let is_refused = failure.cause.action(RequestScope::Item) == ErrorAction::Quarantine;
        let mut trial = self
            .items_in_progress
            .get(&item)
            .map_or_else(ItemFailureCounts::default, |open| open.failure_counts);
        // From its first failed request on: what is sent while it is tried again quickly, and
        // succeeds, speaks for the provider.
        trial.failing_since.get_or_insert_with(|| now.before(failure.failing_duration()));
        match self.policies.item.on_failure(&failure, trial, now, draw) {
            ItemDecision::Gone => {
                self.commit_forbidden(now);
                self.throttled_documents.remove(document);
                let listed = errand.expected_blob.clone();
                self.batch.push(DownloadOutcome::Gone { document, expected_blob: listed }, now);
                self.close_document(item, DocumentResult::Settled, now);
            }
            ItemDecision::NotCharged => self.cancel(item, now),
            ItemDecision::Retry { .. } | ItemDecision::Quarantine if is_refused => {
                self.close_document(item, DocumentResult::DocumentFailed(document, failure), now);
            }
            step @ (ItemDecision::Retry { .. } | ItemDecision::Quarantine) => {
                if step == ItemDecision::Quarantine {
                    self.throttled_documents.remove(document);
                }
                self.close_document(item, DocumentResult::ItemFailed(step, failure), now);
            }
        }
        if escalated.is_some() {
            self.release_forbidden();
        }
        escalated
    }

    /// Takes the group if it is time to make it durable, or if nothing else is left to do.
    pub(super) fn take_due_batch(&mut self, now: Timestamp) -> Option<CommitBatch> {
        if self.committing.len() >= CONCURRENT_COMMITS_MAX {
            return None;
        }
        if self.in_flight_count == 0 && self.queue.is_empty() {
            self.commit_forbidden(now);
        }
        let ripe = self.batch_due_at().is_some_and(|at| at <= now);
        let idle = self.in_flight_count == 0
            && self.queue.is_empty()
            && self.refill != RefillState::Running;
        if self.batch.is_empty() || !(ripe || idle || self.batch.is_full()) {
            return None;
        }
        self.take_batch()
    }

    /// Takes the group as it is.
    pub(super) fn take_batch(&mut self) -> Option<CommitBatch> {
        if self.batch.is_empty() {
            return None;
        }
        let group = std::mem::take(&mut self.batch);
        self.committing.push_back(group.items());
        Some(group)
    }

    /// Notes that the group taken first is durable, or that it is lost; its items are free to be
    /// taken again.
    pub(super) fn on_committed(&mut self, items: &[ItemRowId], retry_at: Option<Timestamp>) {
        self.committing.pop_front();
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

    /// The clock was set: what is not durable yet is due as far away as it was.
    pub(super) fn shift_by(&mut self, step: ClockStep) {
        self.batch.shift_by(step);
        self.pending_forbidden.iter_mut().for_each(|outcome| outcome.shift_by(step));
        for open in self.items_in_progress.values_mut() {
            if let Some((ItemDecision::Retry { at, .. }, _)) = &mut open.worst_failure {
                *at = at.shifted_by(step);
            }
        }
    }

    /// The ledger has other times by now, or other items.
    pub(super) fn request_refill(&mut self) {
        self.is_ledger_view_stale = true;
        self.queue.reset_backlog();
        match self.refill {
            RefillState::At(_) | RefillState::Exhausted => self.refill = RefillState::Now,
            RefillState::Now | RefillState::Running => {}
        }
    }

    /// When what is quarantined is looked at again.
    pub(super) fn recheck_policy(&self) -> RecheckPolicy {
        self.policies.item.recheck
    }

    /// When the newest request for an item that succeeded was sent.
    pub(super) fn last_success_at(&self) -> Option<Timestamp> {
        self.successes.newest_sent_at()
    }

    /// Whether nothing is left to be begun but items that failed.
    pub(super) fn has_only_retries(&self) -> bool {
        let is_known = !self.is_ledger_view_stale && self.refill != RefillState::Running;
        let is_settled = self.is_drained() && self.refill == RefillState::Exhausted;
        is_known && !is_settled && !self.queue.has_untried()
    }

    /// Whether everything that was taken is answered and durable.
    fn is_drained(&self) -> bool {
        self.busy_items.is_empty()
            && self.in_flight_count == 0
            && self.committing.is_empty()
            && self.batch.is_empty()
    }

    /// What there is to do when nothing is in flight and nothing is due.
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

    /// When more is due in the ledger.
    pub(super) fn next_refill_at(&self) -> Option<Timestamp> {
        match self.refill {
            RefillState::At(at) => Some(at),
            RefillState::Now | RefillState::Running | RefillState::Exhausted => None,
        }
    }

    /// When the group is to be made durable, unless as many as may be are being made so already.
    pub(super) fn batch_due_at(&self) -> Option<Timestamp> {
        self.batch.commit_due_at().filter(|_| self.committing.len() < CONCURRENT_COMMITS_MAX)
    }

    /// One document of the item is answered; with the last one, the item is.
    fn close_document(&mut self, item: ItemRowId, flaw: DocumentResult, now: Timestamp) {
        let Some(open) = self.items_in_progress.get_mut(&item) else { return };
        open.outstanding -= 1;
        match flaw {
            DocumentResult::Settled => {}
            DocumentResult::DocumentFailed(document, failure) => {
                open.failed_documents.push((document, failure))
            }
            DocumentResult::ItemFailed(step, failure) => {
                open.worst_failure =
                    Some(worse_failure(open.worst_failure.take(), (step, failure)));
            }
        }
        self.finish_item_if_complete(item, now);
    }

    fn finish_item_if_complete(&mut self, item: ItemRowId, now: Timestamp) {
        if self.items_in_progress.get(&item).is_none_or(|open| open.outstanding > 0) {
            return;
        }
        let Some(open) = self.items_in_progress.remove(&item) else { return };
        let is_forbidden =
            open.failed_documents.iter().any(|(_, failure)| failure.cause == Cause::Forbidden);
        let refused = open
            .failed_documents
            .into_iter()
            .map(|(document, failure)| DownloadOutcome::Failed { document, failure });
        let mut outcomes: Vec<DownloadOutcome> = refused.collect();
        match open.worst_failure {
            // What it lacks is asked for again; its failures meanwhile still count.
            None if open.is_cancelled && outcomes.is_empty() => {
                self.release_item(item);
                return;
            }
            Some((ItemDecision::Retry { failures: trial, at }, failure)) => {
                outcomes.push(DownloadOutcome::Retry {
                    item,
                    failure_counts: trial,
                    retry_at: at,
                    failure,
                });
            }
            Some((ItemDecision::Quarantine, failure)) => {
                outcomes.push(DownloadOutcome::Quarantined { item, failure });
            }
            None | Some((ItemDecision::Gone | ItemDecision::NotCharged, _)) => {
                if let Some(began) = open.started_at {
                    self.metrics
                        .update(|figures| figures.items.fetch_duration.record(now.since(began)));
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

    /// A document of the item stays unanswered, through no fault of the item.
    fn cancel(&mut self, item: ItemRowId, now: Timestamp) {
        let Some(open) = self.items_in_progress.get_mut(&item) else { return };
        open.outstanding -= 1;
        open.is_cancelled = true;
        self.finish_item_if_complete(item, now);
    }

    fn release_item(&mut self, item: ItemRowId) {
        self.busy_items.remove(&item);
        self.queue.reset_backlog();
        match self.refill {
            // Its answer passes over the item.
            RefillState::Running => self.is_ledger_view_stale = true,
            RefillState::Now | RefillState::At(_) | RefillState::Exhausted => {
                self.refill = RefillState::Now
            }
        }
    }

    fn record_success(&mut self, now: Timestamp) {
        self.escalator.record_success();
        self.commit_forbidden(now);
    }

    fn commit_forbidden(&mut self, now: Timestamp) {
        for outcome in std::mem::take(&mut self.pending_forbidden) {
            self.batch.push(outcome, now);
        }
    }

    /// The credential is to blame: the forbidden items were never at fault.
    fn release_forbidden(&mut self) {
        for outcome in std::mem::take(&mut self.pending_forbidden) {
            if let Some(item) = outcome.item() {
                self.release_item(item);
            }
        }
    }
}

#[cfg(test)]
mod tests;
