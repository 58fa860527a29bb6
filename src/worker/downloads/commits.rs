//! Batches that are being committed.

use std::collections::VecDeque;

use crate::ledger::ItemRowId;
use crate::worker::commit_batch::CommitBatch;

/// Batches that commit at a time: one is written while another is published and recorded.
const CONCURRENT_COMMITS_MAX: usize = 2;

/// Batches that are being committed, in the order of their commits.
#[derive(Debug, Default)]
pub(super) struct RunningCommits(VecDeque<CommittingBatch>);

/// Contents of a batch that is being committed.
#[derive(Debug)]
struct CommittingBatch {
    items: Vec<ItemRowId>,
    documents: usize,
}

impl RunningCommits {
    /// Returns true if no further commit may begin.
    pub(super) fn is_full(&self) -> bool {
        self.0.len() >= CONCURRENT_COMMITS_MAX
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the number of documents in all batches.
    pub(super) fn documents(&self) -> usize {
        self.0.iter().map(|batch| batch.documents).sum()
    }

    /// Returns the items in all batches.
    pub(super) fn items(&self) -> impl Iterator<Item = ItemRowId> {
        self.0.iter().flat_map(|batch| batch.items.iter().copied())
    }

    /// Records that the commit of a batch begins.
    pub(super) fn begin(&mut self, batch: &CommitBatch) {
        let (items, documents) = (batch.items(), batch.documents());
        self.0.push_back(CommittingBatch { items, documents });
    }

    /// Records that the commit of the oldest batch has ended.
    pub(super) fn end_oldest(&mut self) {
        self.0.pop_front();
    }
}
