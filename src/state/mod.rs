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
mod state_folder;

pub use self::breakers::{BreakerStates, BreakersFile};
pub use self::format::{ExecutionState, RecordedError, RecordedRestart, SCHEMA};
pub use self::metrics::{METRICS_FILE, MetricsFile, read_metrics, save_metrics};
pub use self::state_file::{
    LoadedState, StateFile, load_state_file, read_state_file, save_state_file,
};
pub use self::state_folder::{SourceFolder, SourceState, StateFileProblem, StateFolder};

pub use self::limiters::{LIMITERS_FILE, LimiterScope, LimiterStates, ScopeState, parse_limiters};

/// Name of the file that a worker locks, in the folder of its source.
pub const LOCK_FILE: &str = "lock";

/// Name of the state file, in the folder of its source.
pub const STATE_FILE: &str = "execution_state.json";

/// Name of the ledger, in the folder of its source.
pub const LEDGER_FILE: &str = "ledger.sqlite";

#[cfg(test)]
mod tests;
