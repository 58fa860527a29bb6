//! Brings the breakers of this process and their file into agreement, away from the loop.
//!
//! The state of a breaker is the one that was last changed, by whatever process: each change has
//! another number. Statistics are added up.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::engine::Failure;
use crate::engine::breaker::{BreakerStatistics, PersistedBreaker};
use crate::state::{BreakerStates, BreakersFile};

/// What is to be done with the file.
#[derive(Debug)]
pub(super) struct SyncJob {
    pub(super) file: Arc<BreakersFile>,
    pub(super) kind: SyncKind,
}

#[derive(Debug)]
pub(super) enum SyncKind {
    /// See whether others have changed anything.
    Read,
    Write(BTreeMap<String, LocalState>),
}

/// A breaker of this process.
#[derive(Debug)]
pub(super) struct LocalState {
    pub(super) state: PersistedBreaker,
    /// The change that the file was last seen at.
    pub(super) known_generation: u64,
    /// What was counted since.
    pub(super) new_counts: BreakerStatistics,
}

/// The file as it is now.
#[derive(Debug)]
pub(super) struct SyncResult {
    pub(super) states: BreakerStates,
    /// The breakers whose state in the file is ours.
    pub(super) accepted: BTreeSet<String>,
    /// What a person should know.
    pub(super) warning: Option<String>,
}

impl SyncJob {
    pub(super) fn run(self) -> Result<SyncResult, Failure> {
        match self.kind {
            SyncKind::Read => {
                // What cannot be read is put aside by the next write.
                let memories = self.file.read()?.unwrap_or_default();
                Ok(SyncResult { states: memories, accepted: BTreeSet::new(), warning: None })
            }
            SyncKind::Write(ours) => {
                let ((memories, taken), note) = self.file.update(|memories| {
                    let taken = merge_local(memories, ours);
                    (memories.clone(), taken)
                })?;
                Ok(SyncResult { states: memories, accepted: taken, warning: note })
            }
        }
    }
}

/// Puts ours among the others; returns those whose state is now ours.
fn merge_local(
    memories: &mut BreakerStates,
    ours: BTreeMap<String, LocalState>,
) -> BTreeSet<String> {
    let mut taken = BTreeSet::new();
    for (name, LocalState { state: memory, known_generation: known, new_counts: news }) in ours {
        match memories.get_mut(&name) {
            Some(theirs) if theirs.generation != known => {
                // After a reset what was counted before it is not wanted any more.
                if theirs.statistics_since == memory.statistics_since {
                    theirs.statistics = theirs.statistics.saturating_add(news);
                }
            }
            Some(theirs) => {
                let statistics = theirs.statistics.saturating_add(news);
                let counted_since = theirs.statistics_since.min(memory.statistics_since);
                *theirs =
                    PersistedBreaker { statistics, statistics_since: counted_since, ..memory };
                taken.insert(name);
            }
            None => {
                taken.insert(name.clone());
                memories.insert(name, memory);
            }
        }
    }
    taken
}
