//! Publishes `execution_state.json`, atomically, and the figures beside it.
//!
//! One file per source, written by its worker after every transition and read by
//! everyone else: `status`, `check`, the monitor, a person. What is in it is also in
//! the ledger, so that a broken file is put aside and made anew, and nothing is lost.

mod breakers;
mod figures;
mod file;
mod format;
mod quotas;
pub(crate) mod words;

use std::path::Path;

use crate::disk::Lock;

pub use self::breakers::{BreakersFile, Memories};
pub use self::figures::{FIGURES_FILE, FiguresFound, examine_figures, save_figures};
pub use self::file::{Found, Loaded, examine, load, save};
pub use self::format::{ExecutionState, LastError, LastRestart, SCHEMA};

pub use self::quotas::{QUOTA_FILE, Remembered, ScopeKey, ScopeMemory, read_quotas};

/// The file that a worker locks, in the folder of its source.
pub const LOCK_FILE: &str = "lock";

/// Returns the process that works on the source whose folder this is: who holds its lock, else who is `written` in its
/// state file. A worker whose disk is full holds the one and cannot write the other.
#[must_use]
pub fn worker_pid(source_dir: &Path, written: Option<u32>) -> Option<u32> {
    Lock::holder(&source_dir.join(LOCK_FILE)).or(written)
}

/// The name of the file, in the folder of its source.
pub const STATE_FILE: &str = "execution_state.json";

#[cfg(test)]
mod frozen;
