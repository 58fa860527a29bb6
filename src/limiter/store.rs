//! Store of the limiters' state in `quota.json`, shared with other processes and read by the next
//! one.
//!
//! It is not a [`VersionedFile`](crate::disk::VersionedFile), which writes after every change:
//! restoring a scope and rejecting a request only read the file. While processes share the limiter,
//! each request parses the file, which is faster in one pass than after its schema number.

use std::collections::BTreeMap;

use cynosure_engine::{Failure, Timestamp};
use tracing::warn;

use crate::disk::{Durability, LockedFile, PreviousContent};
use crate::state::{LimiterScope, LimiterStates, ScopeState, parse_limiters};

/// Age after which a scope is dropped, because hosts come and go.
const FORGET_AFTER_MILLIS: i64 = 90 * 86_400_000;

/// File with the state of all scopes.
#[derive(Debug)]
pub(super) struct LimiterStore {
    file: LockedFile,
    /// Last known revision of each scope.
    known_revisions: BTreeMap<LimiterScope, u64>,
    has_warned: bool,
}

impl LimiterStore {
    pub(super) fn new(mut file: LockedFile) -> Self {
        let mut has_warned = false;
        if let Err(failure) = file.register_use() {
            warn!(
                cause = %failure.cause, error = %failure,
                "cannot detect other processes that use the rate limiter file"
            );
            has_warned = true;
        }
        Self { file, known_revisions: BTreeMap::new(), has_warned }
    }

    pub(super) fn is_only_process(&self) -> bool {
        self.file.is_sole_user()
    }

    /// Calls `change` with the state that another process wrote since the last call, if any, and
    /// writes the state that it returns, if any.
    ///
    /// If the file cannot be used, one warning is logged, and the state is neither shared nor kept.
    pub(super) fn update<T>(
        &mut self,
        key: &LimiterScope,
        durability: Durability,
        now: Timestamp,
        change: impl FnOnce(Option<&ScopeState>) -> (Option<ScopeState>, T),
    ) -> Result<T, Failure> {
        let known = self.known_revisions.get(key).copied();
        let (revision, result) = self.file.update(durability, parse_limiters, |previous| {
            let mut all = match previous {
                PreviousContent::Absent => LimiterStates::default(),
                PreviousContent::Valid(all) => all,
                PreviousContent::Quarantined { quarantine_path, reason } => {
                    warn!(
                        quarantine = %quarantine_path.display(), reason,
                        "cannot read the rate limiter file, moved it aside"
                    );
                    LimiterStates::default()
                }
            };
            let peer_state = all.scopes.get(key).filter(|state| Some(state.revision) != known);
            let current_revision = all.scopes.get(key).map_or(0, |state| state.revision);
            let (own_state, result) = change(peer_state);
            let Some(mut own_state) = own_state else { return (None, (current_revision, result)) };
            own_state.revision = current_revision.wrapping_add(1);
            let revision = own_state.revision;
            let age = |state: &ScopeState| now.0.saturating_sub(state.rate_limit.written_at);
            all.scopes.retain(|_, state| age(state) < FORGET_AFTER_MILLIS);
            all.scopes.insert(key.clone(), own_state);
            (all.into_json(), (revision, result))
        })?;
        self.known_revisions.insert(key.clone(), revision);
        self.has_warned = false;
        Ok(result)
    }

    /// Returns true for the first of several failures in a row.
    pub(super) fn should_warn(&mut self) -> bool {
        !std::mem::replace(&mut self.has_warned, true)
    }
}
