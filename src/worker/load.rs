//! Loads what an earlier run saved: the state and the metrics.

use std::path::Path;

use cynosure_engine::Timestamp;
use cynosure_engine::metrics::SourceMetrics;

use crate::disk::{Disk, quarantine_file};
use crate::ledger::Ledger;
use crate::state::{self, ExecutionState, MetricsFile};
use crate::worker::start_error::StartError;

/// Loads the saved state from the state file, or else from the ledger.
pub(super) fn load_state(
    disk: &dyn Disk,
    state_file: &Path,
    ledger: &dyn Ledger,
    warnings: &mut Vec<String>,
) -> Result<Option<ExecutionState>, StartError> {
    let read = state::load_state_file(disk, state_file)?;
    let (state, problem) = match read {
        state::LoadedState::Read(state) => (Some(*state), None),
        state::LoadedState::Fresh => (None, None),
        state::LoadedState::Unreadable { quarantine_path, reason } => (
            None,
            Some(format!("cannot be read ({reason}) and is kept as {}", quarantine_path.display())),
        ),
        state::LoadedState::Newer { quarantine_path, schema } => (
            None,
            Some(format!(
                "was written by a newer cynosure (schema {schema}) and is kept as {}",
                quarantine_path.display()
            )),
        ),
    };
    if state.is_some() {
        return Ok(state);
    }
    let rebuilt = ledger.state_snapshot()?.and_then(|text| ExecutionState::from_json(&text));
    match (problem, &rebuilt) {
        (Some(problem), Some(_)) => {
            warnings.push(format!("{} {problem}; rebuilt from the ledger", state_file.display()));
        }
        (Some(problem), None) => {
            warnings
                .push(format!("{} {problem}; continuing from the ledger", state_file.display()));
        }
        (None, Some(_)) => {
            warnings.push(format!("{} is missing; rebuilt from the ledger", state_file.display()));
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
    warnings: &mut Vec<String>,
) -> Box<SourceMetrics> {
    let reason = match state::read_metrics(disk, file) {
        MetricsFile::Read(metrics) => return metrics,
        MetricsFile::Absent => return Box::new(SourceMetrics::counting_from(now)),
        MetricsFile::Unusable { reason } => reason,
    };
    let outcome = match quarantine_file(disk, file) {
        Ok(quarantine_path) => format!("it is kept as {}", quarantine_path.display()),
        Err(failure) => format!("it cannot be moved aside ({failure})"),
    };
    warnings.push(format!(
        "the metrics start at zero: {} cannot be used ({reason}); {outcome}",
        file.display()
    ));
    Box::new(SourceMetrics::counting_from(now))
}
