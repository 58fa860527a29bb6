//! The known-good document: tells items that fail in a row from a provider that is down.
//!
//! Before one more failure calls the provider down, a document that it served before is asked for
//! again. If it is served, the provider is well, and the items fail by themselves.

use std::collections::VecDeque;

use tracing::info;

use super::Driver;
use crate::archive::Draft;
use crate::engine::{Failure, Timestamp};
use crate::source::{Source, Wanted};
use crate::worker::breakers::Pass;
use crate::worker::downloads::Errand;
use crate::worker::jobs;
use crate::worker::world::World;

/// The failures that wait for a known-good document to be served, or not.
#[derive(Debug, Default)]
pub(super) struct Doubt {
    held: Vec<Failed>,
    /// The newest documents that were served in this life: the ledger has them only once their
    /// group is durable.
    served: VecDeque<Wanted>,
}

/// A call for an item that failed.
#[derive(Debug)]
pub(super) struct Failed {
    pub errand: Errand,
    pub pass: Pass,
    pub failure: Failure,
    pub at: Timestamp,
}

/// The one at fault for a failure.
#[derive(Debug)]
pub(super) enum Blame {
    /// The item's own: neither the provider's breaker nor its figures hear of it.
    Item,
    /// The provider's, if more of them follow.
    Provider,
    /// The session's, which fails with it.
    Session(Failure),
}

impl Doubt {
    /// Notes a document that was served.
    fn note_served(&mut self, wanted: &Wanted) {
        if self.served.len() >= jobs::KNOWN_GOOD_MAX {
            self.served.pop_front();
        }
        let Wanted { document, blob, size, .. } = wanted.clone();
        self.served.push_back(Wanted::new(document, blob, size));
    }

    /// Forgets what waits: it is asked for again.
    pub(super) fn clear(&mut self) {
        self.held.clear();
    }
}

impl<S: Source + 'static, W: World> Driver<S, W> {
    /// Keeps a failure back that would be one too many, until a known-good document was asked for;
    /// returns any other.
    pub(super) fn doubted(&mut self, failed: Failed) -> Option<Failed> {
        let Failed { errand, pass, failure, at } = &failed;
        let is_one_too_many = !self.downloads.is_own_failure(errand, failure, *at)
            && (self.downloads.would_escalate(errand, failure)
                || pass.would_open(errand.item.0, failure));
        if !is_one_too_many {
            return Some(failed);
        }
        if self.doubt.held.is_empty() {
            self.jobs.push(jobs::fetch_known_good(
                &self.source,
                &self.shared,
                self.doubt.served.iter().cloned().collect(),
            ));
        }
        self.doubt.held.push(failed);
        None
    }

    /// Takes in that a known-good document was served, which was asked for at the time given, or
    /// was not served. Returns the failures that waited for it.
    pub(super) fn known_good(&mut self, served: Option<Timestamp>) -> Vec<Failed> {
        if let Some(sent) = served {
            info!(
                "a stored document can still be fetched: the items that fail are at fault, not the provider"
            );
            self.downloads.served_known_good(sent, self.world.now());
            self.circuits.absolved();
        }
        std::mem::take(&mut self.doubt.held)
    }

    /// Notes that a document was served.
    pub(super) fn served(&mut self, errand: Errand, pass: Pass, draft: Draft) {
        self.meter.note(|figures| figures.record_attempt(None));
        pass.ended(errand.item.0, None);
        self.doubt.note_served(&errand.wanted);
        let (now, draw) = (self.world.now(), self.world.draw());
        self.downloads.answered(errand, Ok(draft), now, draw);
    }

    /// Tells whoever must hear of it that an item failed.
    pub(super) fn blame(&mut self, failed: Failed) -> Blame {
        let Failed { errand, pass, failure, at } = failed;
        let is_own = self.downloads.is_own_failure(&errand, &failure, at);
        if is_own {
            pass.said_nothing();
        } else {
            self.meter.note(|figures| figures.record_attempt(Some(failure.cause)));
            pass.ended(errand.item.0, Some(&failure));
        }
        let draw = self.world.draw();
        match self.downloads.answered(errand, Err(failure), at, draw) {
            Some(failure) => Blame::Session(failure),
            None if is_own => Blame::Item,
            None => Blame::Provider,
        }
    }
}
