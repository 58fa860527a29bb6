//! Status collector: reads the states of the sources and queries the units.

use std::collections::BTreeMap;
use std::path::PathBuf;

use cynosure_engine::health::watch::{
    ProcessStatus, RecentStarts, StateFileContent, UnitObservation, UnitStatus, WatchedSource,
    WorkerStatus,
};
use cynosure_engine::{Cause, Status, Timestamp};

use crate::state::{ExecutionState, SourceState, StateFileProblem, StateFolder};
use crate::systemd::{Bus, BusError, BusErrorKind, UnitName};

/// State of each enabled source, by its name.
pub type SourceStates = BTreeMap<String, SourceState>;

/// Sources and units to watch, with access to the bus.
#[derive(Clone, Debug)]
pub struct StatusCollector {
    pub state_dir: PathBuf,
    /// Enabled sources of the configuration. State files of other sources are ignored.
    pub sources: Vec<String>,
    /// Unit that runs all sources, except those with an instance of its template.
    pub unit: UnitName,
    pub bus: Bus,
}

/// Restart count of an earlier cycle.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct PreviousRestartCount {
    pub(super) at: Timestamp,
    pub(super) restarts: u32,
}

/// Unit with the sources that it runs.
#[derive(Debug)]
pub(super) struct MonitoredUnit {
    pub(super) unit: UnitName,
    pub(super) observation: UnitObservation,
    pub(super) sources: Vec<WatchedSource>,
}

impl StatusCollector {
    /// Reads the states of all sources.
    pub(super) fn read_states(&self) -> SourceStates {
        let folder = StateFolder::new(&self.state_dir);
        let read = |name: &String| (name.clone(), folder.source(name).read_state());
        self.sources.iter().map(read).collect()
    }

    /// Collects the status of all units, each with its sources. `previous_count` returns the
    /// restart count to compare with.
    ///
    /// A source that runs in its own instance, `cynosure@work.service`, belongs to that unit. The
    /// shared unit is left out if every source has an instance and the shared unit is not in use.
    pub(super) fn collect_units(
        &self,
        states: &SourceStates,
        previous_count: impl Fn(&UnitStatus) -> Option<PreviousRestartCount>,
        now: Timestamp,
    ) -> Vec<MonitoredUnit> {
        let shared_status = self.bus.unit_status(&self.unit);
        let mut instances = Vec::new();
        let mut shared_sources = Vec::new();
        // After one failed query, the remaining instances are not queried.
        let mut bus_responds = shared_status.is_ok();
        for (name, state) in states {
            let instance = self.unit.instance(name).filter(|_| bus_responds);
            let queried = instance.map(|unit| (self.bus.unit_status(&unit), unit));
            bus_responds &= !matches!(queried, Some((Err(_), _)));
            let source = WatchedSource { name: name.clone(), state_file: state_file(state) };
            match queried {
                Some((Ok(status), unit)) if status.is_in_use() => {
                    let observation = with_recent_starts(status, &previous_count, now);
                    instances.push(MonitoredUnit { unit, observation, sources: vec![source] });
                }
                Some(_) | None => shared_sources.push(source),
            }
        }
        let is_shared_unit_unused = !instances.is_empty()
            && shared_sources.is_empty()
            && shared_status.as_ref().is_ok_and(|status| !status.is_in_use());
        if is_shared_unit_unused {
            return instances;
        }
        let observation = shared_status.map_or_else(
            |error| to_unit_observation(&error),
            |status| with_recent_starts(status, &previous_count, now),
        );
        let shared =
            MonitoredUnit { unit: self.unit.clone(), observation, sources: shared_sources };
        std::iter::once(shared).chain(instances).collect()
    }
}

fn with_recent_starts(
    unit: UnitStatus,
    previous_count: impl Fn(&UnitStatus) -> Option<PreviousRestartCount>,
    now: Timestamp,
) -> UnitObservation {
    let recent_starts = previous_count(&unit).map(|previous| RecentStarts {
        starts: unit.restarts.saturating_sub(previous.restarts),
        window: now.since(previous.at),
    });
    UnitObservation::Observed { unit, recent_starts }
}

fn state_file(state: &SourceState) -> StateFileContent {
    match state {
        // A first start creates the ledger some time before the state file.
        SourceState::NeverRun | SourceState::Unreadable(StateFileProblem::Missing) => {
            StateFileContent::NeverRun
        }
        SourceState::Unreadable(problem) => {
            StateFileContent::Unreadable { reason: problem.to_string() }
        }
        SourceState::Read(state, process) => {
            StateFileContent::Status(worker_status(state, *process))
        }
    }
}

/// Returns the status of a source, from the state that its worker last wrote.
pub(super) fn worker_status(state: &ExecutionState, process: ProcessStatus) -> WorkerStatus {
    let last_cause = state.last_error.as_ref().and_then(|error| Cause::from_name(&error.cause));
    let is_storage_error =
        state.status == Status::Error && matches!(last_cause, Some(Cause::Storage | Cause::Ledger));
    let storage_error = state.last_error.as_ref().filter(|_| is_storage_error);
    WorkerStatus {
        status: state.status,
        state_since: state.state_since,
        until: state.state_until,
        reason: state.reason.clone(),
        last_progress: state.last_progress,
        last_updated: state.last_updated,
        consecutive_errors: state.consecutive_errors,
        last_cause,
        storage_error: storage_error.map(|error| error.message.clone()),
        session_started_at: state.start_time.filter(|_| state.completion_time.is_none()),
        quarantined: state.quarantined,
        process,
    }
}

/// Converts a bus error. A host without systemd is no problem, but a systemd that does not respond
/// is one.
fn to_unit_observation(error: &BusError) -> UnitObservation {
    match &error.kind {
        BusErrorKind::BusUnavailable { .. } | BusErrorKind::ServiceNotFound { .. } => {
            UnitObservation::NoSystemd { reason: error.kind.to_string() }
        }
        BusErrorKind::Disconnected { .. }
        | BusErrorKind::NotAuthorised { .. }
        | BusErrorKind::UnknownUnit { .. }
        | BusErrorKind::Timeout { .. }
        | BusErrorKind::Failed { .. } => {
            UnitObservation::Unavailable { reason: error.to_string(), advice: error.advice() }
        }
    }
}
