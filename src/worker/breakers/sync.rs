//! Brings the breakers of this process and their file into agreement, away from the loop.
//!
//! The state of a breaker is the one that was last changed, by whatever process: each change has
//! another number. Statistics are added up.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::engine::Failure;
use crate::engine::breaker::{BreakerStatistics, PersistedBreaker};
use crate::state::{BreakersFile, Memories};

/// What is to be done with the file.
#[derive(Debug)]
pub(super) struct Errand {
    pub(super) file: Arc<BreakersFile>,
    pub(super) task: Task,
}

#[derive(Debug)]
pub(super) enum Task {
    /// See whether others have changed anything.
    Read,
    Write(BTreeMap<String, Ours>),
}

/// A breaker of this process.
#[derive(Debug)]
pub(super) struct Ours {
    pub(super) memory: PersistedBreaker,
    /// The change that the file was last seen at.
    pub(super) known: u64,
    /// What was counted since.
    pub(super) news: BreakerStatistics,
}

/// The file as it is now.
#[derive(Debug)]
pub(super) struct Brought {
    pub(super) memories: Memories,
    /// The breakers whose state in the file is ours.
    pub(super) taken: BTreeSet<String>,
    /// What a person should know.
    pub(super) note: Option<String>,
}

impl Errand {
    pub(super) fn carry_out(self) -> Result<Brought, Failure> {
        match self.task {
            Task::Read => {
                // What cannot be read is put aside by the next write.
                let memories = self.file.examine()?.unwrap_or_default();
                Ok(Brought { memories, taken: BTreeSet::new(), note: None })
            }
            Task::Write(ours) => {
                let ((memories, taken), note) = self.file.change(|memories| {
                    let taken = merge(memories, ours);
                    (memories.clone(), taken)
                })?;
                Ok(Brought { memories, taken, note })
            }
        }
    }
}

/// Puts ours among the others; returns those whose state is now ours.
fn merge(memories: &mut Memories, ours: BTreeMap<String, Ours>) -> BTreeSet<String> {
    let mut taken = BTreeSet::new();
    for (name, Ours { memory, known, news }) in ours {
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
