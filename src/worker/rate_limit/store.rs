//! Store of the limiters' state in `quota.json`, shared with other processes and read by the next
//! one.

use std::collections::BTreeMap;

use tracing::warn;

use crate::disk::{Durability, LockedFile, PreviousContent};
use crate::engine::{Failure, Timestamp};
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
        let mut complained = false;
        if let Err(failure) = file.register_use() {
            warn!(cause = %failure.cause, "other processes cannot be noticed: {failure}");
            complained = true;
        }
        Self { file, known_revisions: BTreeMap::new(), has_warned: complained }
    }

    pub(super) fn is_only_process(&self) -> bool {
        self.file.is_sole_user()
    }

    /// Calls `act` with the state that another process wrote since the last call, if any, and
    /// writes the state that it returns, if any.
    ///
    /// If the file cannot be used, one warning is logged, and the state is neither shared nor kept.
    pub(super) fn update<T>(
        &mut self,
        key: &LimiterScope,
        lasts: Durability,
        now: Timestamp,
        act: impl FnOnce(Option<&ScopeState>) -> (Option<ScopeState>, T),
    ) -> Result<T, Failure> {
        let known = self.known_revisions.get(key).copied();
        let (revision, told) = self.file.update(lasts, parse_limiters, |standing| {
            let mut all = match standing {
                PreviousContent::Absent => LimiterStates::default(),
                PreviousContent::Valid(all) => all,
                PreviousContent::Quarantined { quarantine_path: kept_as, reason: why } => {
                    let kept_as = kept_as.display();
                    warn!("what was known of quotas is put aside as {kept_as}: {why}");
                    LimiterStates::default()
                }
            };
            let theirs = all.scopes.get(key).filter(|memory| Some(memory.revision) != known);
            let seen = all.scopes.get(key).map_or(0, |memory| memory.revision);
            let (mine, told) = act(theirs);
            let Some(mut mine) = mine else { return (None, (seen, told)) };
            mine.revision = seen.wrapping_add(1);
            let revision = mine.revision;
            let age = |memory: &ScopeState| now.0.saturating_sub(memory.rate_limit.written_at);
            all.scopes.retain(|_, memory| age(memory) < FORGET_AFTER_MILLIS);
            all.scopes.insert(key.clone(), mine);
            (all.into_json(), (revision, told))
        })?;
        self.known_revisions.insert(key.clone(), revision);
        self.has_warned = false;
        Ok(told)
    }

    /// Returns true for the first of several failures in a row.
    pub(super) fn should_warn(&mut self) -> bool {
        !std::mem::replace(&mut self.has_warned, true)
    }
}
