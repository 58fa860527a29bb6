//! The bookkeeping of a download: what is queued, in flight, answered, and not yet durable.
//!
//! An item is busy from the moment it is taken from the ledger until what became
//! of it is committed there. Whatever is dropped on the way stays unsettled in the
//! ledger and is taken again: nothing here needs to survive.

mod blame;
mod errand;
mod open;
mod queue;
mod refill;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::archive::Draft;
use crate::engine::{
    Cause, ClockStep, ErrorAction, EscalationPolicy, Failure, FailureEscalator, ItemDecision,
    ItemFailureCounts, ItemRetryPolicy, RandomSample, RecentSuccesses, RecheckPolicy, RequestScope,
    Timestamp,
};
use crate::ledger::{ItemNo, Work};
use crate::source::Meter;
use crate::worker::group::{Group, Outcome};

use self::errand::Throttles;
pub(super) use self::errand::{Control, Errand};
use self::open::{Flaw, Open, worse};
use self::queue::Queue;
pub(super) use self::queue::Wish;
pub(super) use self::refill::Lull;
use self::refill::Refill;

/// Groups that are made durable at a time: one is written while another is placed and recorded.
const COMMITTING_MAX: usize = 2;

/// How items are judged.
#[derive(Clone, Debug)]
pub struct Policies {
    pub item: ItemRetryPolicy,
    pub bridge: EscalationPolicy,
}

#[derive(Debug)]
pub(super) struct Downloads {
    policies: Policies,
    bridge: FailureEscalator,
    successes: RecentSuccesses,
    queue: Queue,
    open: BTreeMap<ItemNo, Open>,
    busy: BTreeSet<ItemNo>,
    throttles: Throttles,
    flying: usize,
    group: Group,
    /// The items of each group that is being made durable, in the order in which they become so.
    committing: VecDeque<Vec<ItemNo>>,
    /// Forbidden items, held back until it is known whether they or the credential are to blame.
    withheld: Vec<Outcome>,
    refill: Refill,
    /// The ledger may know more by now than when it was asked: it passed over items that
    /// were busy, or something was settled since.
    is_outdated: bool,
    meter: Meter,
}

impl Downloads {
    /// Goes on with the newest success of an earlier life.
    pub(super) fn new(policies: Policies, succeeded_at: Option<Timestamp>, meter: Meter) -> Self {
        Self {
            policies,
            bridge: FailureEscalator::default(),
            successes: RecentSuccesses::restore(succeeded_at),
            queue: Queue::new(),
            open: BTreeMap::new(),
            busy: BTreeSet::new(),
            throttles: Throttles::default(),
            flying: 0,
            group: Group::default(),
            committing: VecDeque::new(),
            withheld: Vec::new(),
            refill: Refill::Now,
            is_outdated: false,
            meter,
        }
    }

    /// Forgets what is queued and in flight. What is answered stays, to be committed.
    pub(super) fn drop_in_flight(&mut self) {
        self.queue.clear();
        self.open.clear();
        self.flying = 0;
        self.refill = Refill::Now;
        let answered = self.group.outcomes.iter().chain(&self.withheld);
        let mut kept: BTreeSet<_> = answered.filter_map(Outcome::item).collect();
        kept.extend(self.committing.iter().flatten());
        self.busy = kept;
    }

    /// Asks for nothing more; what is in flight may end and be kept.
    pub(super) fn drop_queue(&mut self, now: Timestamp) {
        for errand in self.queue.drain() {
            self.abandon(errand.item, now);
        }
    }

    pub(super) fn half_open(&mut self) {
        self.bridge.enter_half_open(self.policies.bridge);
    }

    /// Whether there is a document to fetch, and `concurrency` allows one more.
    pub(super) fn may_take(&self, concurrency: usize) -> bool {
        let limit = self.slots(concurrency);
        self.flying < limit && !self.group.is_full() && self.queue.may_take(limit)
    }

    fn slots(&self, concurrency: usize) -> usize {
        if self.bridge.is_half_open() { 1 } else { concurrency }
    }

    /// Takes the next document to fetch, if it may be taken.
    pub(super) fn take(&mut self, concurrency: usize, now: Timestamp) -> Option<Errand> {
        if !self.may_take(concurrency) {
            return None;
        }
        let mut errand = self.queue.take(self.slots(concurrency))?;
        errand.asked_at = now;
        if self.throttles.wants_control(errand.no) && self.flying == 0 {
            errand.control = Control::Needed;
        }
        errand.wanted.is_suspect =
            self.successes.is_item_specific_failure(errand.item.0, errand.failing_since);
        if let Some(open) = self.open.get_mut(&errand.item) {
            open.began.get_or_insert(now);
        }
        self.flying += 1;
        Some(errand)
    }

    /// Returns what must be taken from the ledger now, if anything.
    pub(super) fn wants_more(&mut self, now: Timestamp) -> Option<Wish> {
        let may_have_untried = self.is_outdated && !self.queue.has_untried();
        let due = match self.refill {
            Refill::Now => self.queue.has_room() || may_have_untried,
            Refill::At(at) => at <= now || may_have_untried,
            Refill::Never => may_have_untried,
            Refill::Running => false,
        };
        due.then(|| {
            self.refill = Refill::Running;
            self.is_outdated = false;
            Wish { limits: self.queue.ask(), skip: self.busy.clone() }
        })
    }

    /// Takes in what is due, and when the next item is.
    pub(super) fn admit(&mut self, work: Vec<Work>, next_due: Option<Timestamp>, now: Timestamp) {
        let retries = work.iter().filter(|work| work.is_retry).count();
        self.refill = match (self.queue.came(work.len() - retries, retries), next_due) {
            (true, _) => Refill::Now,
            (false, Some(at)) => Refill::At(at),
            (false, None) => Refill::Never,
        };
        for mut work in work {
            self.busy.insert(work.no);
            if work.documents.is_empty() {
                self.group.push(Outcome::Answered { item: work.no }, now);
                continue;
            }
            let open = Open {
                trial: work.trial,
                began: None,
                unanswered: work.documents.len(),
                refused: Vec::new(),
                fault: None,
                abandoned: false,
            };
            self.open.insert(work.no, open);
            for document in std::mem::take(&mut work.documents) {
                let strikes = self.throttles.strikes(document.no, work.trial.strikes);
                let errand = Errand::new(&work, document, strikes, now);
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
    pub(super) fn answered(
        &mut self,
        errand: Errand,
        answer: Result<Draft, Failure>,
        now: Timestamp,
        draw: RandomSample,
    ) -> Option<Failure> {
        let (item, document) = (errand.item, errand.no);
        self.flying = self.flying.saturating_sub(1);
        self.queue.answered(&errand);
        match answer.as_ref().map_err(|failure| failure.strikes) {
            Ok(_) => self.throttles.succeeded(document),
            Err(Some(strikes)) => self.throttles.throttled(document, strikes),
            Err(None) => self.throttles.failed(document, errand.control),
        }
        match answer {
            Ok(draft) => {
                self.successes.record(Some(item.0), errand.asked_at);
                self.succeeded(now);
                let Errand { item_id, listed, wanted, .. } = errand;
                self.group.push(Outcome::Stored { document, item_id, listed, wanted, draft }, now);
                self.close(item, Flaw::None, now);
                None
            }
            Err(failure) => self.failed(&errand, failure, now, draw),
        }
    }

    fn failed(
        &mut self,
        errand: &Errand,
        failure: Failure,
        now: Timestamp,
        draw: RandomSample,
    ) -> Option<Failure> {
        let (item, document) = (errand.item, errand.no);
        let escalated = if self.is_own_failure(errand, &failure, now) {
            None
        } else {
            self.bridge.record_failure(self.policies.bridge, item.0, &failure)
        };
        let is_refused = failure.cause.action(RequestScope::Item) == ErrorAction::Quarantine;
        let mut trial =
            self.open.get(&item).map_or_else(ItemFailureCounts::default, |open| open.trial);
        // From its first failed request on: what is sent while it is tried again quickly, and
        // succeeds, speaks for the provider.
        trial.failing_since.get_or_insert_with(|| now.before(failure.failing_duration()));
        match self.policies.item.on_failure(&failure, trial, now, draw) {
            ItemDecision::Gone => {
                self.flush_withheld(now);
                self.throttles.forget(document);
                let listed = errand.listed.clone();
                self.group.push(Outcome::Gone { document, listed }, now);
                self.close(item, Flaw::None, now);
            }
            ItemDecision::NotCharged => self.abandon(item, now),
            ItemDecision::Retry { .. } | ItemDecision::Quarantine if is_refused => {
                self.close(item, Flaw::Refused(document, failure), now);
            }
            step @ (ItemDecision::Retry { .. } | ItemDecision::Quarantine) => {
                if step == ItemDecision::Quarantine {
                    self.throttles.forget(document);
                }
                self.close(item, Flaw::Failed(step, failure), now);
            }
        }
        if escalated.is_some() {
            self.release_withheld();
        }
        escalated
    }

    /// Takes the group if it is time to make it durable, or if nothing else is left to do.
    pub(super) fn take_group(&mut self, now: Timestamp) -> Option<Group> {
        if self.committing.len() >= COMMITTING_MAX {
            return None;
        }
        if self.flying == 0 && self.queue.is_empty() {
            self.flush_withheld(now);
        }
        let ripe = self.group_closes_at().is_some_and(|at| at <= now);
        let idle = self.flying == 0 && self.queue.is_empty() && self.refill != Refill::Running;
        if self.group.is_empty() || !(ripe || idle || self.group.is_full()) {
            return None;
        }
        self.take_last_group()
    }

    /// Takes the group as it is.
    pub(super) fn take_last_group(&mut self) -> Option<Group> {
        if self.group.is_empty() {
            return None;
        }
        let group = std::mem::take(&mut self.group);
        self.committing.push_back(group.items());
        Some(group)
    }

    /// Notes that the group taken first is durable, or that it is lost; its items are free to be
    /// taken again.
    pub(super) fn committed(&mut self, items: &[ItemNo], retry_at: Option<Timestamp>) {
        self.committing.pop_front();
        self.is_outdated = true;
        for item in items {
            self.busy.remove(item);
        }
        self.refill = match (self.refill, retry_at) {
            (Refill::At(at), Some(retry)) => Refill::At(at.min(retry)),
            (Refill::Never, Some(retry)) => Refill::At(retry),
            (refill, _) => refill,
        };
    }

    /// The clock was set: what is not durable yet is due as far away as it was.
    pub(super) fn moved(&mut self, step: ClockStep) {
        self.group.moved(step);
        self.withheld.iter_mut().for_each(|outcome| outcome.moved(step));
        for open in self.open.values_mut() {
            if let Some((ItemDecision::Retry { at, .. }, _)) = &mut open.fault {
                *at = at.shifted_by(step);
            }
        }
    }

    /// The ledger has other times by now, or other items.
    pub(super) fn ask_again(&mut self) {
        self.is_outdated = true;
        self.queue.may_be_more();
        match self.refill {
            Refill::At(_) | Refill::Never => self.refill = Refill::Now,
            Refill::Now | Refill::Running => {}
        }
    }

    /// When what is quarantined is looked at again.
    pub(super) fn recheck(&self) -> RecheckPolicy {
        self.policies.item.recheck
    }

    /// When the newest request for an item that succeeded was sent.
    pub(super) fn succeeded_at(&self) -> Option<Timestamp> {
        self.successes.newest_sent_at()
    }

    /// Whether nothing is left to be begun but items that failed.
    pub(super) fn has_only_retries(&self) -> bool {
        let is_known = !self.is_outdated && self.refill != Refill::Running;
        let is_settled = self.is_quiet() && self.refill == Refill::Never;
        is_known && !is_settled && !self.queue.has_untried()
    }

    /// Whether everything that was taken is answered and durable.
    fn is_quiet(&self) -> bool {
        self.busy.is_empty()
            && self.flying == 0
            && self.committing.is_empty()
            && self.group.is_empty()
    }

    /// What there is to do when nothing is in flight and nothing is due.
    pub(super) fn lull(&self) -> Option<Lull> {
        if self.is_outdated || !self.is_quiet() {
            return None;
        }
        match self.refill {
            Refill::Never => Some(Lull::AllSettled),
            Refill::At(until) => Some(Lull::Resting(until)),
            Refill::Now | Refill::Running => None,
        }
    }

    pub(super) fn in_flight(&self) -> usize {
        self.flying
    }

    /// When more is due in the ledger.
    pub(super) fn refills_at(&self) -> Option<Timestamp> {
        match self.refill {
            Refill::At(at) => Some(at),
            Refill::Now | Refill::Running | Refill::Never => None,
        }
    }

    /// When the group is to be made durable, unless as many as may be are being made so already.
    pub(super) fn group_closes_at(&self) -> Option<Timestamp> {
        self.group.closes_at().filter(|_| self.committing.len() < COMMITTING_MAX)
    }

    /// One document of the item is answered; with the last one, the item is.
    fn close(&mut self, item: ItemNo, flaw: Flaw, now: Timestamp) {
        let Some(open) = self.open.get_mut(&item) else { return };
        open.unanswered -= 1;
        match flaw {
            Flaw::None => {}
            Flaw::Refused(document, failure) => open.refused.push((document, failure)),
            Flaw::Failed(step, failure) => {
                open.fault = Some(worse(open.fault.take(), (step, failure)));
            }
        }
        self.finish_if_answered(item, now);
    }

    fn finish_if_answered(&mut self, item: ItemNo, now: Timestamp) {
        if self.open.get(&item).is_none_or(|open| open.unanswered > 0) {
            return;
        }
        let Some(open) = self.open.remove(&item) else { return };
        let is_forbidden =
            open.refused.iter().any(|(_, failure)| failure.cause == Cause::Forbidden);
        let refused = open
            .refused
            .into_iter()
            .map(|(document, failure)| Outcome::Refused { document, failure });
        let mut outcomes: Vec<Outcome> = refused.collect();
        match open.fault {
            // What it lacks is asked for again; its failures meanwhile still count.
            None if open.abandoned && outcomes.is_empty() => {
                self.release(item);
                return;
            }
            Some((ItemDecision::Retry { failures: trial, at }, failure)) => {
                outcomes.push(Outcome::Retry { item, trial, at, failure });
            }
            Some((ItemDecision::Quarantine, failure)) => {
                outcomes.push(Outcome::Quarantined { item, failure });
            }
            None | Some((ItemDecision::Gone | ItemDecision::NotCharged, _)) => {
                if let Some(began) = open.began {
                    self.meter
                        .note(|figures| figures.items.fetch_duration.record(now.since(began)));
                }
                outcomes.push(Outcome::Answered { item });
            }
        }
        if is_forbidden {
            self.withheld.extend(outcomes);
            return;
        }
        for outcome in outcomes {
            self.group.push(outcome, now);
        }
    }

    /// A document of the item stays unanswered, through no fault of the item.
    fn abandon(&mut self, item: ItemNo, now: Timestamp) {
        let Some(open) = self.open.get_mut(&item) else { return };
        open.unanswered -= 1;
        open.abandoned = true;
        self.finish_if_answered(item, now);
    }

    fn release(&mut self, item: ItemNo) {
        self.busy.remove(&item);
        self.queue.may_be_more();
        match self.refill {
            // Its answer passes over the item.
            Refill::Running => self.is_outdated = true,
            Refill::Now | Refill::At(_) | Refill::Never => self.refill = Refill::Now,
        }
    }

    fn succeeded(&mut self, now: Timestamp) {
        self.bridge.record_success();
        self.flush_withheld(now);
    }

    fn flush_withheld(&mut self, now: Timestamp) {
        for outcome in std::mem::take(&mut self.withheld) {
            self.group.push(outcome, now);
        }
    }

    /// The credential is to blame: the forbidden items were never at fault.
    fn release_withheld(&mut self) {
        for outcome in std::mem::take(&mut self.withheld) {
            if let Some(item) = outcome.item() {
                self.release(item);
            }
        }
    }
}

#[cfg(test)]
mod tests;
