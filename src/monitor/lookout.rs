//! Looks at the state files and at the unit.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::disk::{Disk, is_alive};
use crate::engine::Moment;
use crate::engine::watch::{Course, Lately, Process, Told, UnitSeen, UnitStatus, Watched};
use crate::state::{ExecutionState, Found, SCHEMA, STATE_FILE, examine};
use crate::systemd::{Bus, BusError, BusTrouble, UnitName};

/// What is watched, and the ways to it.
#[derive(Clone, Debug)]
pub struct Lookout {
    pub disk: Arc<dyn Disk>,
    pub state_dir: PathBuf,
    /// The enabled sources of the configuration. What others left behind is nobody's work any more.
    pub sources: Vec<String>,
    pub unit: UnitName,
    pub bus: Bus,
}

/// A count of starts, seen earlier.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Earlier {
    pub(super) at: Moment,
    pub(super) restarts: u32,
}

impl Lookout {
    /// Looks at all sources.
    #[must_use]
    pub fn sources(&self) -> Vec<Watched> {
        let watched = self.sources.iter().map(|name| Watched {
            name: name.clone(),
            told: self.told(&self.state_dir.join(name)),
        });
        watched.collect()
    }

    /// Asks for the unit; `earlier` finds the count of starts to compare with.
    pub(super) fn unit(
        &self,
        earlier: impl FnOnce(&UnitStatus) -> Option<Earlier>,
        now: Moment,
    ) -> UnitSeen {
        match self.bus.unit_status(&self.unit) {
            Ok(unit) => {
                let lately = earlier(&unit).map(|earlier| Lately {
                    starts: unit.restarts.saturating_sub(earlier.restarts),
                    within: now.since(earlier.at),
                });
                UnitSeen::Known { unit, lately }
            }
            Err(error) => unseen(&error),
        }
    }

    fn told(&self, dir: &Path) -> Told {
        let nothing = |why: String| Told::Nothing { why };
        match examine(&*self.disk, &dir.join(STATE_FILE)) {
            Ok(Found::Read(state)) => Told::Course(course(*state)),
            Ok(Found::Absent) => Told::NeverRun,
            Ok(Found::Unreadable { why }) => nothing(format!("the file is damaged ({why})")),
            Ok(Found::Newer { schema }) => nothing(format!(
                "a newer cynosure wrote the file (schema {schema}, this one knows {SCHEMA})"
            )),
            Err(failure) => nothing(failure.detail),
        }
    }
}

fn course(state: ExecutionState) -> Course {
    let process = match state.pid {
        None => Process::Left,
        Some(pid) if is_alive(pid) => Process::Running { pid },
        Some(pid) => Process::Died { pid },
    };
    Course {
        status: state.status,
        state_since: state.state_since,
        until: state.until,
        reason: state.reason,
        last_progress: state.last_progress,
        last_updated: state.last_updated,
        consecutive_errors: state.consecutive_errors,
        process,
    }
}

/// Where there is no systemd at all, nothing is amiss; where it does not answer, something is.
fn unseen(error: &BusError) -> UnitSeen {
    match &error.trouble {
        BusTrouble::NoBus { .. } | BusTrouble::NoService { .. } => {
            UnitSeen::NoSystemd { why: error.trouble.to_string() }
        }
        BusTrouble::BrokeOff { .. }
        | BusTrouble::NotAuthorised { .. }
        | BusTrouble::UnknownUnit { .. }
        | BusTrouble::NoAnswer { .. }
        | BusTrouble::Failed { .. } => {
            UnitSeen::Untold { why: error.to_string(), remedy: error.remedy() }
        }
    }
}
