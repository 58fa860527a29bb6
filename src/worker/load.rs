//! Loads what an earlier run saved: the state and the metrics.

use std::path::Path;

use crate::disk::{Disk, quarantine_file};
use crate::engine::Timestamp;
use crate::engine::metrics::SourceMetrics;
use crate::ledger::Ledger;
use crate::state::{self, ExecutionState, MetricsFile};
use crate::worker::start_error::StartError;

/// Loads the saved state from the state file, or else from the ledger.
pub(super) fn load_state(
    disk: &dyn Disk,
    state_file: &Path,
    ledger: &Ledger,
    notes: &mut Vec<String>,
) -> Result<Option<ExecutionState>, StartError> {
    let read = state::load_state_file(disk, state_file)?;
    let (state, trouble) = match read {
        state::LoadedState::Read(state) => (Some(*state), None),
        state::LoadedState::Fresh => (None, None),
        state::LoadedState::Unreadable { quarantine_path: kept_as, reason: why } => {
            (None, Some(format!("cannot be read ({why}) and is kept as {}", kept_as.display())))
        }
        state::LoadedState::Newer { quarantine_path: kept_as, schema } => (
            None,
            Some(format!(
                "was written by a newer cynosure (schema {schema}) and is kept as {}",
                kept_as.display()
            )),
        ),
    };
    if state.is_some() {
        return Ok(state);
    }
    let rebuilt = ledger.state_snapshot()?.and_then(|text| ExecutionState::from_json(&text));
    match (trouble, &rebuilt) {
        (Some(trouble), Some(_)) => {
            notes.push(format!("{} {trouble}; rebuilt from the ledger", state_file.display()));
        }
        (Some(trouble), None) => {
            notes.push(format!("{} {trouble}; going on from the ledger", state_file.display()));
        }
        (None, Some(_)) => {
            notes.push(format!("{} is missing; rebuilt from the ledger", state_file.display()));
        }
        (None, None) => {}
    }
    Ok(rebuilt)
}

/// Loads the saved metrics, or starts at zero: no work depends on them.
pub(super) fn load_metrics(
    disk: &dyn Disk,
    file: &Path,
    now: Timestamp,
    notes: &mut Vec<String>,
) -> Box<SourceMetrics> {
    let why = match state::read_metrics(disk, file) {
        MetricsFile::Read(figures) => return figures,
        MetricsFile::Absent => return Box::new(SourceMetrics::counting_from(now)),
        MetricsFile::Unusable { reason: why } => why,
    };
    let told = match quarantine_file(disk, file) {
        Ok(kept_as) => format!("is kept as {}", kept_as.display()),
        Err(failure) => format!("cannot be put aside ({failure})"),
    };
    notes.push(format!(
        "counting begins at zero: {} cannot be used ({why}), and {told}",
        file.display()
    ));
    Box::new(SourceMetrics::counting_from(now))
}
