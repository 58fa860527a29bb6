//! Counts what the loop does, for whoever watches. Nothing here decides anything.

use std::time::Duration;

use super::Driver;
use crate::engine::metrics::{ItemTotals, add_saturating};
use crate::engine::{Cause, Effect, Failure, StateMachine, Step, Timestamp};
use crate::ledger::Tally;
use crate::source::{News, Source};
use crate::worker::group::Weight;
use crate::worker::jobs::Done;
use crate::worker::world::World;

impl<S: Source + 'static, W: World> Driver<S, W> {
    /// Counts what a decision changes.
    pub(super) fn count_step(&self, before: &StateMachine, step: &Step, now: Timestamp) {
        let next = &step.machine;
        let errors = next.error_count.saturating_sub(before.error_count);
        let has_changed = before.status() != next.status();
        let has_finished = step.effects.iter().any(|effect| matches!(effect, Effect::CloseSession));
        self.meter.note(|figures| {
            figures.advance_to(now);
            add_saturating(&mut figures.lifecycle.errors, u64::from(errors));
            add_saturating(&mut figures.lifecycle.sessions_completed, u64::from(has_finished));
            if has_changed {
                figures.record_status(next.status());
            }
        });
    }

    /// Takes over what the ledger counts, and counts what was added.
    pub(super) fn count_on(&mut self, tally: Tally) {
        // Fewer than before: another session has found something to show.
        let is_another = tally.listed < self.tally.listed;
        let before = if is_another { Tally::default() } else { self.tally };
        let (before, now) = (settled(before), settled(tally));
        self.tally = tally;
        self.meter.note(|figures| figures.record_item_totals(before, now));
    }

    /// Counts a group that is durable.
    pub(super) fn count_group(&self, weight: Weight, took: Duration) {
        self.meter.note(|figures| {
            let items = &mut figures.items;
            add_saturating(&mut items.documents_stored, weight.documents);
            add_saturating(&mut items.bytes_stored, weight.bytes);
            add_saturating(&mut items.failed_attempts, weight.failed_attempts);
            items.commit_duration.record(took);
        });
    }

    /// Notes how an attempt to get something of the source ended.
    pub(super) fn count_attempt(&self, done: &Done) {
        let cause = |failure: &Failure| failure.cause;
        let end: Option<Cause> = match done {
            // What is new may be known without asking anyone.
            Done::Looked(Ok(News::Something)) => return,
            Done::Looked(end) => end.as_ref().err().map(cause),
            Done::Paged(end) => end.as_ref().err().map(cause),
            Done::Proved(end) => end.as_ref().err().map(cause),
            // Counted where it is known whose failure it is.
            Done::Fetched { .. } => return,
            Done::KnownGood(_)
            | Done::Refilled(_)
            | Done::Committed { .. }
            | Done::Finished(_)
            | Done::ReconcileDue
            | Done::Renewed(_)
            | Done::Shut(_) => return,
        };
        self.meter.note(|figures| figures.record_attempt(end));
    }
}

fn settled(tally: Tally) -> ItemTotals {
    let Tally { listed, stored, gone, quarantined, .. } = tally;
    ItemTotals { listed, stored, gone, quarantined }
}
