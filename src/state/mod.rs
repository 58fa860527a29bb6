//! State files: `execution_state.json` and the metrics of each source, and the circuit breakers and
//! rate limiters that all processes share.
//!
//! Each source has one execution state, written atomically by its worker after every transition and
//! read by `status`, `check`, the monitor and operators. Its content is also in the ledger,
//! from which a broken file is rebuilt after it was quarantined.

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

/// Name of the file that a worker locks, in the folder of its source.
pub const LOCK_FILE: &str = "lock";

/// Returns the process id of the worker of the source in `source_dir`: the holder of its lock, else
/// `recorded_pid`, the one in its state file. A worker whose disk is full holds the lock and cannot
/// write the state file.
#[must_use]
pub fn running_worker_pid(source_dir: &Path, recorded_pid: Option<u32>) -> Option<u32> {
    FileLock::holder_pid(&source_dir.join(LOCK_FILE)).or(recorded_pid)
}

/// Name of the state file, in the folder of its source.
pub const STATE_FILE: &str = "execution_state.json";

#[cfg(test)]
mod tests;
