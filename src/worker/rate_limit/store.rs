//! What the gates remember, in `quota.json`: written by whoever passes a gate, read by the next process.

use std::collections::BTreeMap;

use tracing::warn;

use crate::disk::{Durability, LockedFile, PreviousContent};
use crate::engine::{Failure, Timestamp};
use crate::state::{LimiterScope, LimiterStates, ScopeState, parse_limiters};

/// Scopes that nobody has asked for longer than this are forgotten: hosts come and go.
const FORGET_AFTER_MILLIS: i64 = 90 * 86_400_000;

/// The file as this process knows it.
#[derive(Debug)]
pub(super) struct LimiterStore {
    file: LockedFile,
    /// The revision of each scope that is known here.
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

    /// Has `act` see what others wrote of a scope since the last time, if anything, and return
    /// what it becomes, or none to leave it.
    ///
    /// A file that cannot be used is complained of once; then nothing is shared or remembered.
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

    /// Whether this failure is the first of a row.
    pub(super) fn should_warn(&mut self) -> bool {
        !std::mem::replace(&mut self.has_warned, true)
    }
}
