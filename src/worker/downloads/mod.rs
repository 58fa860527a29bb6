//! The bookkeeping of a download: what is queued, in flight, answered, and not yet durable.
//!
//! An item is busy from the moment it is taken from the ledger until what became
//! of it is committed there. Whatever is dropped on the way stays unsettled in the
//! ledger and is taken again: nothing here needs to survive.

mod errand;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::archive::Draft;
use crate::engine::{
    BlobId, Bridge, BridgePolicy, Cause, ClockStep, Draw, Failure, ItemPolicy, ItemStep, Moment,
    Recheck, Scope, Verdict,
};
use crate::ledger::{DocumentNo, ItemNo, Work};
use crate::source::{Meter, Wanted};
use crate::worker::group::{Group, Outcome};

use self::errand::Throttles;
pub(super) use self::errand::{Control, Errand};

/// Fewer errands than this, and more are taken from the ledger.
const QUEUE_LOW: usize = 256;

/// Groups that are made durable at a time: one is written while another is placed and recorded.
const COMMITTING_MAX: usize = 2;

/// An item with documents that are not answered yet.
#[derive(Debug)]
struct Open {
    attempts: u32,
    /// When the first of its documents was asked for.
    began: Option<Moment>,
    unanswered: usize,
    /// Documents that may not be had, and why.
    refused: Vec<(DocumentNo, Failure)>,
    /// What its worst other document deserves.
    fault: Option<(ItemStep, Failure)>,
    /// Some of its documents will not be asked for: it stays unsettled.
    abandoned: bool,
}

/// What is wrong with an answered document.
enum Flaw {
    None,
    Refused(DocumentNo, Failure),
    Failed(ItemStep, Failure),
}

/// When the ledger is asked for more.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Refill {
    Now,
    Running,
    /// All that is due has been taken; the next item is due then.
    At(Moment),
    /// Nothing is left but what is busy.
    Never,
}

/// Why nothing is in flight.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Lull {
    AllSettled,
    /// Every unsettled item waits for its own retry.
    Resting(Moment),
}

/// How items are judged.
#[derive(Clone, Debug)]
pub struct Policies {
    pub item: ItemPolicy,
    pub bridge: BridgePolicy,
}

#[derive(Debug)]
pub(super) struct Downloads {
    policies: Policies,
    bridge: Bridge,
    queue: VecDeque<Errand>,
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
    pub(super) fn new(policies: Policies, meter: Meter) -> Self {
        Self {
            policies,
            bridge: Bridge::default(),
            queue: VecDeque::new(),
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
    pub(super) fn drop_queue(&mut self, now: Moment) {
        for errand in std::mem::take(&mut self.queue) {
            self.abandon(errand.item, now);
        }
    }

    pub(super) fn half_open(&mut self) {
        self.bridge.half_open(self.policies.bridge);
    }

    /// Whether there is a document to fetch, and `concurrency` allows one more.
    pub(super) fn may_take(&self, concurrency: usize) -> bool {
        let limit = if self.bridge.is_half_open() { 1 } else { concurrency };
        self.flying < limit && !self.group.is_full() && !self.queue.is_empty()
    }

    /// Takes the next document to fetch, if it may be taken.
    pub(super) fn take(&mut self, concurrency: usize, now: Moment) -> Option<Errand> {
        if !self.may_take(concurrency) {
            return None;
        }
        let mut errand = self.queue.pop_front()?;
        errand.asked_at = now;
        if self.throttles.wants_control(errand.no) && self.flying == 0 {
            errand.control = Control::Needed;
        }
        if let Some(open) = self.open.get_mut(&errand.item) {
            open.began.get_or_insert(now);
        }
        self.flying += 1;
        Some(errand)
    }

    /// Whether more must be taken from the ledger now; if so, which items to pass over.
    pub(super) fn wants_more(&mut self, now: Moment) -> Option<BTreeSet<ItemNo>> {
        let due = match self.refill {
            Refill::Now => self.queue.len() < QUEUE_LOW,
            Refill::At(at) if at <= now => true,
            Refill::At(_) | Refill::Never => self.is_outdated && self.is_quiet(),
            Refill::Running => false,
        };
        due.then(|| {
            self.refill = Refill::Running;
            self.is_outdated = !self.busy.is_empty();
            self.busy.clone()
        })
    }

    /// Takes in what is due; `more` tells whether there may be more of it now.
    pub(super) fn admit(
        &mut self,
        work: Vec<Work>,
        more: bool,
        next_due: Option<Moment>,
        now: Moment,
    ) {
        self.refill = match (more, next_due) {
            (true, _) => Refill::Now,
            (false, Some(at)) => Refill::At(at),
            (false, None) => Refill::Never,
        };
        let mut last = VecDeque::new();
        for work in work {
            self.busy.insert(work.no);
            if work.documents.is_empty() {
                self.group.push(Outcome::Answered { item: work.no }, now);
                continue;
            }
            let open = Open {
                attempts: work.attempts,
                began: None,
                unanswered: work.documents.len(),
                refused: Vec::new(),
                fault: None,
                abandoned: false,
            };
            self.open.insert(work.no, open);
            for document in work.documents {
                let strikes = self.throttles.strikes(document.no);
                // A throttled document is not what finds out whether the quota is back.
                let queue = if strikes.count() == 0 { &mut self.queue } else { &mut last };
                queue.push_back(Errand {
                    item: work.no,
                    item_id: work.item.clone(),
                    no: document.no,
                    listed: document.blob.clone(),
                    wanted: Wanted {
                        document: document.id,
                        blob: document.blob,
                        size: document.size,
                        strikes,
                    },
                    control: Control::NotNeeded,
                    asked_at: now,
                });
            }
        }
        self.queue.append(&mut last);
    }

    /// Notes the answer to an errand; returns the failure of the session it amounts to.
    pub(super) fn answered(
        &mut self,
        errand: Errand,
        answer: Result<Draft, Failure>,
        now: Moment,
        draw: Draw,
    ) -> Option<Failure> {
        let (item, document) = (errand.item, errand.no);
        self.flying = self.flying.saturating_sub(1);
        match answer.as_ref().map_err(|failure| failure.strikes) {
            Ok(_) => self.throttles.succeeded(document),
            Err(Some(strikes)) => self.throttles.throttled(document, strikes),
            Err(None) => self.throttles.failed(document, errand.control),
        }
        match answer {
            Ok(draft) => {
                self.succeeded(now);
                let Errand { item_id, listed, wanted, .. } = errand;
                self.group.push(Outcome::Stored { document, item_id, listed, wanted, draft }, now);
                self.close(item, Flaw::None, now);
                None
            }
            Err(failure) => self.failed(item, (document, errand.listed), failure, now, draw),
        }
    }

    fn failed(
        &mut self,
        item: ItemNo,
        (document, listed): (DocumentNo, BlobId),
        failure: Failure,
        now: Moment,
        draw: Draw,
    ) -> Option<Failure> {
        let escalated = self.bridge.failed(self.policies.bridge, item.0, &failure);
        let is_refused = failure.cause.verdict(Scope::Item) == Verdict::Quarantine;
        let attempts = self.open.get(&item).map_or(0, |open| open.attempts);
        match self.policies.item.after(&failure, attempts, now, draw) {
            ItemStep::Gone => {
                self.flush_withheld(now);
                self.throttles.forget(document);
                self.group.push(Outcome::Gone { document, listed }, now);
                self.close(item, Flaw::None, now);
            }
            ItemStep::Unharmed => self.abandon(item, now),
            ItemStep::Retry { .. } | ItemStep::Quarantine if is_refused => {
                self.close(item, Flaw::Refused(document, failure), now);
            }
            step @ (ItemStep::Retry { .. } | ItemStep::Quarantine) => {
                if step == ItemStep::Quarantine {
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
    pub(super) fn take_group(&mut self, now: Moment) -> Option<Group> {
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
    pub(super) fn committed(&mut self, items: &[ItemNo], retry_at: Option<Moment>) {
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
            if let Some((ItemStep::Retry { at, .. }, _)) = &mut open.fault {
                *at = at.moved(step);
            }
        }
    }

    /// What the ledger said of times no longer holds.
    pub(super) fn ask_again(&mut self) {
        self.is_outdated = true;
        if let Refill::At(_) = self.refill {
            self.refill = Refill::Now;
        }
    }

    /// When what is quarantined is looked at again.
    pub(super) fn recheck(&self) -> Recheck {
        self.policies.item.recheck
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
    pub(super) fn refills_at(&self) -> Option<Moment> {
        match self.refill {
            Refill::At(at) => Some(at),
            Refill::Now | Refill::Running | Refill::Never => None,
        }
    }

    /// When the group is to be made durable, unless as many as may be are being made so already.
    pub(super) fn group_closes_at(&self) -> Option<Moment> {
        self.group.closes_at().filter(|_| self.committing.len() < COMMITTING_MAX)
    }

    /// One document of the item is answered; with the last one, the item is.
    fn close(&mut self, item: ItemNo, flaw: Flaw, now: Moment) {
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

    fn finish_if_answered(&mut self, item: ItemNo, now: Moment) {
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
            Some((ItemStep::Retry { attempts, at }, failure)) => {
                outcomes.push(Outcome::Retry { item, attempts, at, failure });
            }
            Some((ItemStep::Quarantine, failure)) => {
                outcomes.push(Outcome::Quarantined { item, failure });
            }
            None | Some((ItemStep::Gone | ItemStep::Unharmed, _)) => {
                if let Some(began) = open.began {
                    self.meter.note(|figures| figures.items.duration.note(now.since(began)));
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
    fn abandon(&mut self, item: ItemNo, now: Moment) {
        let Some(open) = self.open.get_mut(&item) else { return };
        open.unanswered -= 1;
        open.abandoned = true;
        self.finish_if_answered(item, now);
    }

    fn release(&mut self, item: ItemNo) {
        self.busy.remove(&item);
        if self.refill != Refill::Running {
            self.refill = Refill::Now;
        }
    }

    fn succeeded(&mut self, now: Moment) {
        self.bridge.succeeded();
        self.flush_withheld(now);
    }

    fn flush_withheld(&mut self, now: Moment) {
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

/// Of two faults of one item, the one that sets it further back.
fn worse(known: Option<(ItemStep, Failure)>, new: (ItemStep, Failure)) -> (ItemStep, Failure) {
    match known {
        Some(known @ (ItemStep::Quarantine, _)) => known,
        Some(_) | None => new,
    }
}

#[cfg(test)]
mod tests;
