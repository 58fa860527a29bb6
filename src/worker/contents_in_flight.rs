//! Contents that are on their way into the archive, so that none of them is stored twice.

use std::collections::BTreeSet;
use std::sync::{Arc, Weak};

/// SHA-256 hashes of the documents of one batch.
pub(super) type BatchHashes = BTreeSet<[u8; 32]>;

/// Hashes of the batches that are being committed.
#[derive(Debug, Default)]
pub(super) struct ContentsInFlight {
    batches: Vec<Weak<BatchHashes>>,
}

impl ContentsInFlight {
    /// Returns true if a batch that is neither recorded nor lost has this hash.
    pub(super) fn contains(&self, sha256: &[u8; 32]) -> bool {
        self.batches.iter().filter_map(Weak::upgrade).any(|hashes| hashes.contains(sha256))
    }

    /// Adds the hashes of a batch. They are in flight until the returned handle is dropped: a batch
    /// can be lost at every step of its commit.
    pub(super) fn add(&mut self, hashes: BatchHashes) -> Arc<BatchHashes> {
        self.batches.retain(|batch| batch.strong_count() > 0);
        let hashes = Arc::new(hashes);
        self.batches.push(Arc::downgrade(&hashes));
        hashes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contents_are_in_flight_until_their_batch_is_dropped() {
        let mut in_flight = ContentsInFlight::default();
        let first = in_flight.add(BTreeSet::from([[1; 32]]));
        let second = in_flight.add(BTreeSet::from([[2; 32]]));
        let contained = |in_flight: &ContentsInFlight| {
            [1, 2, 3].map(|number| in_flight.contains(&[number; 32]))
        };

        assert_eq!(contained(&in_flight), [true, true, false]);
        drop(first);
        assert_eq!(contained(&in_flight), [false, true, false]);
        drop(second);
        let _third = in_flight.add(BTreeSet::from([[3; 32]]));
        assert_eq!(contained(&in_flight), [false, false, true]);
        assert_eq!(in_flight.batches.len(), 1, "dropped batches are forgotten");
    }
}
