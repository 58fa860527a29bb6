//! Progress of the session: the counts of the ledger, how fast they grow, and the totals of the
//! archive.

use cynosure_engine::Timestamp;

use super::observers::Observers;
use crate::ledger::{ArchiveTotals, SessionCounts};
use crate::worker::state_mapping::SessionProgress;
use crate::worker::throughput::Throughput;

/// Progress of the session, as far as the loop knows it.
#[derive(Debug)]
pub(super) struct Progress {
    /// Counts of the ledger at its last use.
    pub counts: SessionCounts,
    /// No listing of the source was ever completed before this run.
    is_new: bool,
    pub waiting_items: u64,
    pub expected_documents: Option<u64>,
    /// Totals of the archive with those of the session so far; `None` if they could not be read.
    pub archive: Option<ArchiveTotals>,
    throughput: Throughput,
}

impl Progress {
    pub(super) fn new(counts: SessionCounts, is_new: bool) -> Self {
        let (waiting_items, expected_documents) = (0, None);
        Self {
            counts,
            is_new,
            waiting_items,
            expected_documents,
            archive: None,
            throughput: Throughput::default(),
        }
    }

    /// Returns true if no item was ever listed: then the configuration is probably wrong.
    pub(super) fn has_never_worked(&self) -> bool {
        self.is_new && self.counts.listed == 0
    }

    /// Takes over the counts of the ledger.
    pub(super) fn update_counts(&mut self, counts: SessionCounts, observers: &Observers) {
        // Lower counts belong to another session, which has listed something.
        let is_other_session = counts.listed < self.counts.listed;
        let before = if is_other_session { SessionCounts::default() } else { self.counts };
        self.counts = counts;
        observers.on_counts(before, counts);
    }

    /// Takes over the counts of the ledger after a commit of the session. Only a commit stores
    /// documents. A page may bring the counts of the session before, which are in the totals.
    pub(super) fn record_commit(&mut self, counts: SessionCounts, observers: &Observers) {
        self.archive = self.archive.map(|archive| grown(archive, self.counts, counts));
        self.update_counts(counts, observers);
    }

    /// Records the settled items in the throughput.
    pub(super) fn record_throughput(&mut self, now: Timestamp) {
        self.throughput.record(self.counts.settled(), now);
    }

    /// Starts the measurement of the throughput again.
    pub(super) fn reset_throughput(&mut self, now: Timestamp) {
        self.throughput.reset(self.counts.settled(), now);
    }

    /// Returns the progress to save and to publish.
    pub(super) fn snapshot(
        &self,
        last_success_at: Option<Timestamp>,
        now: Timestamp,
    ) -> SessionProgress {
        SessionProgress {
            counts: self.counts,
            waiting_items: self.waiting_items,
            expected_documents: self.expected_documents,
            items_per_second: self.throughput.per_second(now),
            archive: self.archive,
            last_success_at,
        }
    }
}

/// Returns the totals of the archive after the counts of the session have grown.
fn grown(archive: ArchiveTotals, before: SessionCounts, after: SessionCounts) -> ArchiveTotals {
    let documents = after.documents.saturating_sub(before.documents);
    let bytes = after.bytes.saturating_sub(before.bytes);
    ArchiveTotals {
        documents: archive.documents.saturating_add(documents),
        bytes: archive.bytes.saturating_add(bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_totals_grow_with_the_session() {
        let counts = |documents| SessionCounts {
            documents,
            bytes: documents * 100,
            ..SessionCounts::default()
        };
        let archive = ArchiveTotals { documents: 40, bytes: 4_000 };

        let after = grown(archive, counts(3), counts(5));

        assert_eq!(after, ArchiveTotals { documents: 42, bytes: 4_200 });
        assert_eq!(grown(after, counts(5), counts(5)), after);
    }
}
