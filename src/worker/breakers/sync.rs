//! Synchronisation of the breakers with their file, outside the event loop.
//!
//! The latest change of state wins, whichever process made it: each change has its own generation.
//! Statistics are added up.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::engine::Failure;
use crate::engine::breaker::{BreakerStatistics, PersistedBreaker};
use crate::state::{BreakerStates, BreakersFile};

/// Operation on the file.
#[derive(Debug)]
pub(super) struct SyncJob {
    pub(super) file: Arc<BreakersFile>,
    pub(super) kind: SyncKind,
}

#[derive(Debug)]
pub(super) enum SyncKind {
    /// Read the changes of other processes.
    Read,
    Write(BTreeMap<String, LocalState>),
}

/// State of a breaker in this process.
#[derive(Debug)]
pub(super) struct LocalState {
    pub(super) state: PersistedBreaker,
    /// Generation last seen in the file.
    pub(super) known_generation: u64,
    /// Counts since then.
    pub(super) new_counts: BreakerStatistics,
}

/// State of the file after a job.
#[derive(Debug)]
pub(super) struct SyncResult {
    pub(super) states: BreakerStates,
    /// Breakers whose state in the file comes from this process.
    pub(super) accepted: BTreeSet<String>,
    /// Warning about the state of the file.
    pub(super) warning: Option<String>,
}

impl SyncJob {
    pub(super) fn run(self) -> Result<SyncResult, Failure> {
        match self.kind {
            SyncKind::Read => {
                // An unreadable file is put aside by the next write.
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

/// Merges our breakers into the file. Returns those whose state in the file is now ours.
fn merge_local(
    memories: &mut BreakerStates,
    ours: BTreeMap<String, LocalState>,
) -> BTreeSet<String> {
    let mut taken = BTreeSet::new();
    for (name, LocalState { state: memory, known_generation: known, new_counts: news }) in ours {
        match memories.get_mut(&name) {
            Some(theirs) if theirs.generation != known => {
                // After a reset, earlier counts are dropped.
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
