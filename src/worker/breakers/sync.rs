//! Synchronisation of the breakers with their file, outside the event loop.
//!
//! The latest change of state wins, whichever process made it: each change has its own generation.
//! Statistics are added up.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use cynosure_engine::Failure;
use cynosure_engine::breaker::{BreakerStatistics, PersistedBreaker};

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
                // An unreadable file is moved aside by the next write.
                let states = self.file.read()?.unwrap_or_default();
                Ok(SyncResult { states, accepted: BTreeSet::new(), warning: None })
            }
            SyncKind::Write(local_states) => {
                let ((states, accepted), warning) = self.file.update(|states| {
                    let accepted = merge_local(states, local_states);
                    (states.clone(), accepted)
                })?;
                Ok(SyncResult { states, accepted, warning })
            }
        }
    }
}

/// Merges our breakers into the file. Returns those whose state in the file is now ours.
fn merge_local(
    states: &mut BreakerStates,
    local_states: BTreeMap<String, LocalState>,
) -> BTreeSet<String> {
    let mut accepted = BTreeSet::new();
    for (name, LocalState { state, known_generation, new_counts }) in local_states {
        match states.get_mut(&name) {
            Some(saved) if saved.generation != known_generation => {
                // After a reset, earlier counts are dropped.
                if saved.statistics_since == state.statistics_since {
                    saved.statistics = saved.statistics.saturating_add(new_counts);
                }
            }
            Some(saved) => {
                let statistics = saved.statistics.saturating_add(new_counts);
                let statistics_since = saved.statistics_since.min(state.statistics_since);
                *saved = PersistedBreaker { statistics, statistics_since, ..state };
                accepted.insert(name);
            }
            None => {
                accepted.insert(name.clone());
                states.insert(name, state);
            }
        }
    }
    accepted
}
