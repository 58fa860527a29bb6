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
    /// Collects the status of all units and their sources. `earlier` returns the restart count to
    /// compare with.
    ///
    /// A source that runs in its own instance, `cynosure@work.service`, belongs to that unit. The
    /// shared unit is left out if every source has an instance and the shared unit is not in use.
    pub(super) fn collect_units(
        &self,
        earlier: impl Fn(&UnitStatus) -> Option<PreviousRestartCount>,
        now: Timestamp,
    ) -> Vec<MonitoredUnit> {
        let asked = self.bus.unit_status(&self.unit);
        let mut instances = Vec::new();
        let mut rest = Vec::new();
        // After one failed query, the remaining instances are not queried.
        let mut answers = asked.is_ok();
        for name in &self.sources {
            let instance = self.unit.instance(name).filter(|_| answers);
            let seen = instance.map(|unit| (self.bus.unit_status(&unit), unit));
            answers &= !matches!(seen, Some((Err(_), _)));
            let source = WatchedSource {
                name: name.clone(),
                state_file: self.read_state_file(&self.state_dir.join(name)),
            };
            match seen {
                Some((Ok(status), unit)) if status.is_in_use() => {
                    let seen = with_recent_starts(status, &earlier, now);
                    instances.push(MonitoredUnit {
                        unit,
                        observation: seen,
                        sources: vec![source],
                    });
                }
                Some(_) | None => rest.push(source),
            }
        }
        let is_beside_the_point = !instances.is_empty()
            && rest.is_empty()
            && asked.as_ref().is_ok_and(|status| !status.is_in_use());
        let seen = asked.map_or_else(
            |error| to_unit_observation(&error),
            |status| with_recent_starts(status, &earlier, now),
        );
        let all = MonitoredUnit { unit: self.unit.clone(), observation: seen, sources: rest };
        if is_beside_the_point {
            instances
        } else {
            std::iter::once(all).chain(instances).collect()
        }
    }

    fn read_state_file(&self, dir: &Path) -> StateFileContent {
        let nothing = |why: String| StateFileContent::Unreadable { reason: why };
        match read_state_file(&*self.disk, &dir.join(STATE_FILE)) {
            Ok(StateFile::Read(state)) => {
                let pid = running_worker_pid(dir, state.pid);
                StateFileContent::Status(to_worker_status(*state, pid))
            }
            Ok(StateFile::Absent) => StateFileContent::NeverRun,
            Ok(StateFile::Unreadable { reason: why }) => {
                nothing(format!("the file is damaged ({why})"))
            }
            Ok(StateFile::Newer { schema }) => nothing(format!(
                "a newer cynosure wrote the file (schema {schema}, this one knows {SCHEMA})"
            )),
            Err(failure) => nothing(failure.message),
        }
    }
}

fn with_recent_starts(
    unit: UnitStatus,
    earlier: impl Fn(&UnitStatus) -> Option<PreviousRestartCount>,
    now: Timestamp,
) -> UnitObservation {
    let lately = earlier(&unit).map(|earlier| RecentStarts {
        starts: unit.restarts.saturating_sub(earlier.restarts),
        window: now.since(earlier.at),
    });
    UnitObservation::Observed { unit, recent_starts: lately }
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

/// Converts a bus error. A host without systemd is no problem, but a systemd that does not answer
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
