//! Documents on their way, and what is known of those that were throttled.

use std::collections::BTreeMap;

use crate::engine::{BlobId, ItemId, ThrottleStrikes, Timestamp};
use crate::ledger::{DocumentNo, ItemNo, WantedDocument, Work};
use crate::source::Wanted;

/// One document to fetch.
#[derive(Debug)]
pub(in crate::worker) struct Errand {
    pub item: ItemNo,
    pub item_id: ItemId,
    pub no: DocumentNo,
    /// The blob by which the ledger knew it when it was taken.
    pub listed: BlobId,
    pub wanted: Wanted,
    pub control: Control,
    /// Its item failed since it was taken on.
    pub is_retry: bool,
    /// When its item first failed.
    pub failing_since: Option<Timestamp>,
    /// When it was taken to be fetched.
    pub asked_at: Timestamp,
}

impl Errand {
    pub(super) fn new(
        work: &Work,
        document: WantedDocument,
        strikes: ThrottleStrikes,
        now: Timestamp,
    ) -> Self {
        let WantedDocument { no, id, blob, size, .. } = document;
        Self {
            item: work.no,
            item_id: work.item.clone(),
            no,
            listed: blob.clone(),
            wanted: Wanted { strikes, ..Wanted::new(id, blob, size) },
            control: Control::NotNeeded,
            is_retry: work.is_retry,
            failing_since: work.trial.failing_since,
            asked_at: now,
        }
    }
}

/// A request for something else before a document that was throttled, where no other document is
/// there to tell whether that is its own affair.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::worker) enum Control {
    NotNeeded,
    Needed,
    /// It succeeded.
    Made,
}

/// Documents that were throttled and did not succeed since.
#[derive(Debug, Default)]
pub(super) struct Throttles {
    known: BTreeMap<DocumentNo, Throttled>,
}

#[derive(Clone, Copy, Debug)]
struct Throttled {
    strikes: ThrottleStrikes,
    /// Something else succeeded since.
    is_controlled: bool,
}

impl Throttles {
    /// The strikes of a document; where none are known here, those of its item in an earlier process.
    pub(super) fn strikes(&self, document: DocumentNo, before: u32) -> ThrottleStrikes {
        self.known
            .get(&document)
            .map_or_else(|| ThrottleStrikes::restore(before), |known| known.strikes)
    }

    /// Whether a document was throttled, and nothing succeeded since.
    pub(super) fn wants_control(&self, document: DocumentNo) -> bool {
        self.known.get(&document).is_some_and(|known| !known.is_controlled)
    }

    pub(super) fn throttled(&mut self, document: DocumentNo, strikes: ThrottleStrikes) {
        self.known.insert(document, Throttled { strikes, is_controlled: false });
    }

    /// A document was fetched: others are let through.
    pub(super) fn succeeded(&mut self, document: DocumentNo) {
        self.known.remove(&document);
        self.known.values_mut().for_each(|other| other.is_controlled = true);
    }

    /// A document failed otherwise, which says nothing of its throttles.
    pub(super) fn failed(&mut self, document: DocumentNo, control: Control) {
        if let Some(known) = self.known.get_mut(&document) {
            known.is_controlled |= control == Control::Made;
        }
    }

    pub(super) fn forget(&mut self, document: DocumentNo) {
        self.known.remove(&document);
    }
}
