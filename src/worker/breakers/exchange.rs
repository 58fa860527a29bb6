//! Exchange of the breakers with their store, outside the event loop.
//!
//! The states of this process are merged into those of the store. The
//! process then adopts the states that hold. Both steps are the same three-way merge, see
//! [`PersistedBreaker::merge`]: the first one from the state that the process knew, the second one
//! from the state that it sent, because it goes on counting meanwhile.

use std::collections::BTreeMap;

use cynosure_engine::breaker::{
    Breaker, BreakerPermit, BreakerPolicy, BreakerTransition, PersistedBreaker,
};
use cynosure_engine::{Failure, Timestamp};

use crate::state::BreakerStates;
use crate::worker::breakers::breaker_store::BreakerStore;

/// Circuit breaker that processes share by their store.
#[derive(Clone, Debug)]
pub(super) struct SharedBreaker {
    pub(super) breaker: Breaker,
    /// State in the store after the last exchange; `None` before the first.
    saved: Option<PersistedBreaker>,
    /// Permit of the call made by name.
    pub(super) named_permit: Option<BreakerPermit>,
}

/// Merges the breakers into the store, or only reads it if there are none. Returns the states in the
/// store, and a warning if it could not be read.
///
/// # Errors
/// A storage failure.
pub(super) fn exchange(
    store: &dyn BreakerStore,
    sent: &BTreeMap<String, SharedBreaker>,
) -> Result<(BreakerStates, Option<String>), Failure> {
    if sent.is_empty() {
        // An unreadable content is replaced by the next write.
        return Ok((store.read()?.unwrap_or_default(), None));
    }
    let mut result = BreakerStates::new();
    let note = store.update(&mut |states| {
        for (name, shared) in sent {
            let merged = shared.merged_with(states.get(name));
            states.insert(name.clone(), merged);
        }
        result.clone_from(states);
    })?;
    Ok((result, note))
}

impl SharedBreaker {
    /// Creates a closed breaker that is not in the store yet.
    pub(super) fn new(name: &str, policy: BreakerPolicy, now: Timestamp) -> Self {
        Self { breaker: Breaker::new(name, policy, now), saved: None, named_permit: None }
    }

    /// Restores a breaker from the store.
    pub(super) fn from_saved(
        name: &str,
        policy: BreakerPolicy,
        saved: PersistedBreaker,
        now: Timestamp,
    ) -> Self {
        let breaker = Breaker::restore(name, policy, &saved, now);
        Self { breaker, saved: Some(saved), named_permit: None }
    }

    /// Returns true if the state has changed since the last exchange.
    pub(super) fn has_changed(&self) -> bool {
        self.breaker.generation() != self.saved.as_ref().map_or(0, |saved| saved.generation)
    }

    /// Returns true if the store does not include all counts.
    pub(super) fn has_new_counts(&self) -> bool {
        let saved = self.saved.as_ref().map(|saved| saved.statistics).unwrap_or_default();
        self.breaker.statistics() != saved
    }

    /// Returns the state to write in place of that in the store.
    pub(super) fn merged_with(&self, theirs: Option<&PersistedBreaker>) -> PersistedBreaker {
        let ours = self.breaker.to_persisted();
        match theirs {
            Some(theirs) => PersistedBreaker::merge(self.saved.as_ref(), &ours, theirs),
            None => ours,
        }
    }

    /// Adopts the state that the store has after an exchange, in which `sent` was merged into it, if
    /// anything was. Returns the transition of another process.
    pub(super) fn adopt(
        &mut self,
        sent: Option<&Self>,
        saved: PersistedBreaker,
        now: Timestamp,
    ) -> Option<BreakerTransition> {
        // What was counted after sending is newer than a reset in the store.
        let sent = sent.map(|sent| PersistedBreaker {
            statistics_since: saved.statistics_since,
            ..sent.breaker.to_persisted()
        });
        let ours = self.breaker.to_persisted();
        let base = sent.as_ref().or(self.saved.as_ref());
        let merged = PersistedBreaker::merge(base, &ours, &saved);
        self.saved = Some(saved);
        if merged.has_same_change(&ours) {
            // The window, the streak and the probe in flight stay as they are.
            self.breaker.set_statistics(merged.statistics, Timestamp(merged.statistics_since));
            return None;
        }
        let (name, policy) = (self.breaker.name(), self.breaker.policy());
        let restored = Breaker::restore(name, policy, &merged, now);
        let previous = std::mem::replace(&mut self.breaker, restored);
        let change = self.breaker.last_transition();
        change.filter(|change| previous.last_transition() != Some(*change)).cloned()
    }
}
