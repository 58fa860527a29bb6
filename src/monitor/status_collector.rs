//! Status collector: reads the state files and queries the units.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::disk::{Disk, process_exists};
use crate::engine::watch::{
    ProcessStatus, RecentStarts, StateFileContent, UnitObservation, UnitStatus, WatchedSource,
    WorkerStatus,
};
use crate::engine::{Cause, Timestamp};
use crate::state::{
    ExecutionState, SCHEMA, STATE_FILE, StateFile, read_state_file, running_worker_pid,
};
use crate::systemd::{Bus, BusError, BusErrorKind, UnitName};

/// Sources and units to watch, with access to disk and bus.
#[derive(Clone, Debug)]
pub struct StatusCollector {
    pub disk: Arc<dyn Disk>,
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
    /// Collects the status of all units and their sources. `previous_count` returns the restart
    /// count to compare with.
    ///
    /// A source that runs in its own instance, `cynosure@work.service`, belongs to that unit. The
    /// shared unit is left out if every source has an instance and the shared unit is not in use.
    pub(super) fn collect_units(
        &self,
        previous_count: impl Fn(&UnitStatus) -> Option<PreviousRestartCount>,
        now: Timestamp,
    ) -> Vec<MonitoredUnit> {
        let shared_status = self.bus.unit_status(&self.unit);
        let mut instances = Vec::new();
        let mut shared_sources = Vec::new();
        // After one failed query, the remaining instances are not queried.
        let mut bus_responds = shared_status.is_ok();
        for name in &self.sources {
            let instance = self.unit.instance(name).filter(|_| bus_responds);
            let queried = instance.map(|unit| (self.bus.unit_status(&unit), unit));
            bus_responds &= !matches!(queried, Some((Err(_), _)));
            let source = WatchedSource {
                name: name.clone(),
                state_file: self.read_state_file(&self.state_dir.join(name)),
            };
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

    fn read_state_file(&self, dir: &Path) -> StateFileContent {
        let unreadable = |reason: String| StateFileContent::Unreadable { reason };
        match read_state_file(&*self.disk, &dir.join(STATE_FILE)) {
            Ok(StateFile::Read(state)) => {
                let pid = running_worker_pid(dir, state.pid);
                StateFileContent::Status(to_worker_status(*state, pid))
            }
            Ok(StateFile::Absent) => StateFileContent::NeverRun,
            Ok(StateFile::Unreadable { reason }) => {
                unreadable(format!("the file is damaged ({reason})"))
            }
            Ok(StateFile::Newer { schema }) => unreadable(format!(
                "a newer cynosure wrote the file (schema {schema}, this one knows {SCHEMA})"
            )),
            Err(failure) => unreadable(failure.message),
        }
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

fn to_worker_status(state: ExecutionState, pid: Option<u32>) -> WorkerStatus {
    let process = match pid {
        None => ProcessStatus::Exited,
        Some(pid) if process_exists(pid) => ProcessStatus::Running { pid },
        Some(pid) => ProcessStatus::Died { pid },
    };
    WorkerStatus {
        status: state.status,
        state_since: state.state_since,
        until: state.state_until,
        reason: state.reason,
        last_progress: state.last_progress,
        last_updated: state.last_updated,
        consecutive_errors: state.consecutive_errors,
        last_cause: state.last_error.and_then(|error| Cause::from_name(&error.cause)),
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
