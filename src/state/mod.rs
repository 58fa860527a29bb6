//! Publishes `execution_state.json`, atomically, and the figures beside it.
//!
//! One file per source, written by its worker after every transition and read by
//! everyone else: `status`, `check`, the monitor, a person. What is in it is also in
//! the ledger, so that a broken file is put aside and made anew, and nothing is lost.

mod breakers;
mod format;
mod limiters;
mod metrics;
pub(crate) mod serde_with;
mod state_file;

use std::path::Path;

use crate::disk::FileLock;

pub use self::breakers::{BreakerStates, BreakersFile};
pub use self::format::{ExecutionState, RecordedError, RecordedRestart, SCHEMA};
pub use self::metrics::{METRICS_FILE, MetricsFile, read_metrics, save_metrics};
pub use self::state_file::{
    LoadedState, StateFile, load_state_file, read_state_file, save_state_file,
};

pub use self::limiters::{LIMITERS_FILE, LimiterScope, LimiterStates, ScopeState, parse_limiters};

/// The file that a worker locks, in the folder of its source.
pub const LOCK_FILE: &str = "lock";

/// Returns the process that works on the source whose folder this is: who holds its lock, else who is `written` in its
/// state file. A worker whose disk is full holds the one and cannot write the other.
#[must_use]
pub fn running_worker_pid(source_dir: &Path, written: Option<u32>) -> Option<u32> {
    FileLock::holder_pid(&source_dir.join(LOCK_FILE)).or(written)
}

/// The name of the file, in the folder of its source.
pub const STATE_FILE: &str = "execution_state.json";

#[cfg(test)]
mod format_compat;
