//! Monitor cycle: collects the status of units and sources, evaluates it, restarts units and
//! records the result.

use std::time::Duration;

use crate::engine::watch::{
    Finding, HealthLevel, Remedy, StateFileContent, Subject, UnitObservation, UnitStatus,
    WatchLimits, WatchedSource, evaluate, worst_level,
};
use crate::engine::{Failure, RestartPermit, Timestamp};
use crate::monitor::monitor_file::{
    MonitorFile, MonitorRecord, RestartCountSample, RestartOutcome, RestartRecord,
};
use crate::monitor::status_collector::{MonitoredUnit, PreviousRestartCount, StatusCollector};
use crate::systemd::{BusError, RestartBudgetFile, UnitName};

/// Window over which starts are counted. The pauses of systemd between two starts are shorter, so
/// that a crash loop shows. Sessions that end well and start again are further apart.
const CRASH_LOOP_WINDOW: Duration = Duration::from_secs(600);

/// Monitor that evaluates units and restarts them as far as its policy allows.
#[derive(Debug)]
pub struct Monitor {
    status_collector: StatusCollector,
    limits: WatchLimits,
    restart_policy: RestartPolicy,
    monitor_file: MonitorFile,
    restart_budget: RestartBudgetFile,
}

/// Restarts that the monitor may request.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct RestartPolicy {
    /// Restarts of a worker that is running but makes no decisions.
    pub stuck_worker: RestartRule,
    /// Restarts of a unit that has failed, or hangs in its start.
    pub failed_unit: RestartRule,
}

#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum RestartRule {
    Allowed,
    #[default]
    Denied,
}

/// Result of a monitor cycle.
#[derive(Debug)]
pub struct CycleResult {
    pub units: Vec<UnitEvaluation>,
    /// Failure to record the cycle in `monitor.json`.
    pub record_failure: Option<Failure>,
}

/// Evaluation of one unit and its sources.
#[derive(Debug)]
pub struct UnitEvaluation {
    pub unit: UnitName,
    /// The first is about the unit, the others are about its sources.
    pub findings: Vec<Finding>,
    pub action: RestartAction,
}

/// Restart decision for a unit.
#[derive(Debug)]
pub enum RestartAction {
    /// No restart is needed.
    None,
    /// A restart would help, but the policy denies it.
    Denied,
    /// A restart would help, but it cannot be counted.
    BudgetUnavailable { failure: Failure },
    /// systemd accepted the restart request.
    Requested { grant: RestartPermit, reason: String },
    /// The last restart is too recent, so this one has to wait.
    Delayed { not_before: Timestamp, reason: String },
    /// systemd rejected the restart request.
    Rejected { error: BusError, reason: String },
}

impl Monitor {
    #[must_use]
    pub fn new(lookout: StatusCollector, limits: WatchLimits, powers: RestartPolicy) -> Self {
        let record = MonitorFile::new(&lookout.state_dir);
        let budget = RestartBudgetFile::new(&lookout.state_dir);
        Self {
            status_collector: lookout,
            limits,
            restart_policy: powers,
            monitor_file: record,
            restart_budget: budget,
        }
    }

    /// Evaluates all units and changes nothing.
    #[must_use]
    pub fn evaluate(&self, now: Timestamp) -> Vec<UnitEvaluation> {
        let groups = self.collect_units(now).into_iter();
        groups
            .map(|group| evaluate_unit(group, &self.limits, now, |_, _| RestartAction::None).0)
            .collect()
    }

    /// Reads the record of earlier cycles.
    ///
    /// # Errors
    /// A storage failure.
    pub fn read_record(&self) -> Result<MonitorRecord, Failure> {
        self.monitor_file.read_or_default()
    }

    /// Runs one cycle: evaluates all units, restarts those that need it as far as the policy
    /// allows, and records the result. Blocks for a few times the bus timeout at most. `clock_kept`
    /// returns the time since the last clock step, as far as known; it is called after everything
    /// is read.
    pub fn run_cycle(&self, now: Timestamp, clock_kept: impl FnOnce() -> Duration) -> CycleResult {
        let (mut units, mut counts) = (Vec::new(), Vec::new());
        let groups = self.collect_units(now);
        let limits = WatchLimits { clock_stable_for: clock_kept(), ..self.limits };
        for group in groups {
            let act = |findings: &[Finding], group: &MonitoredUnit| {
                self.restart_if_needed(findings, group, now)
            };
            let (judged, count) = evaluate_unit(group, &limits, now, act);
            units.push(judged);
            counts.extend(count);
        }
        let unrecorded = self.save_record(&units, counts, now).err();
        CycleResult { units, record_failure: unrecorded }
    }

    fn collect_units(&self, now: Timestamp) -> Vec<MonitoredUnit> {
        // Without a readable record there is no count to compare with, but the units are still
        // checked.
        let record = self.monitor_file.read_or_default().unwrap_or_default();
        self.status_collector.collect_units(|unit| previous_restart_count(&record, unit, now), now)
    }

    fn restart_if_needed(
        &self,
        findings: &[Finding],
        group: &MonitoredUnit,
        now: Timestamp,
    ) -> RestartAction {
        let Some(ill) = findings.iter().find(|finding| finding.remedy == Remedy::Restart) else {
            return RestartAction::None;
        };
        let permit = match ill.subject {
            Subject::Source(_) => self.restart_policy.stuck_worker,
            Subject::Unit(_) => self.restart_policy.failed_unit,
        };
        if permit == RestartRule::Denied {
            return RestartAction::Denied;
        }
        let why = format!("{}: {}", ill.subject.name(), ill.kind);
        let (unit, progress) = (&group.unit, last_progress(&group.sources));
        let ready = self.restart_allowed_at(unit, progress, now);
        if ready > now {
            return RestartAction::Delayed { not_before: ready, reason: why };
        }
        // Counted before the restart, so that a monitor that crashes on it does not repeat it
        // forever.
        let grant = match self.restart_budget.request_restart(unit.as_str(), progress, now) {
            Ok(grant) => grant,
            // Without a stored budget nothing would limit restarts, so none is requested.
            Err(failure) => return RestartAction::BudgetUnavailable { failure },
        };
        match self.status_collector.bus.restart_unit(unit) {
            Ok(()) => RestartAction::Requested { grant, reason: why },
            Err(error) => RestartAction::Rejected { error, reason: why },
        }
    }

    /// Returns the earliest time at which the budget allows a restart, without counting one.
    fn restart_allowed_at(
        &self,
        unit: &UnitName,
        progress: Timestamp,
        now: Timestamp,
    ) -> Timestamp {
        let counts = self.restart_budget.read_or_default().unwrap_or_default();
        let mut count = counts.get(unit.as_str()).copied().unwrap_or_default();
        count.request_restart(progress, now).not_before
    }

    fn save_record(
        &self,
        units: &[UnitEvaluation],
        counts: Vec<RestartCountSample>,
        now: Timestamp,
    ) -> Result<(), Failure> {
        self.monitor_file.change(|record| {
            record.record_cycle(units, now);
            counts.into_iter().for_each(|count| record.record_restart_count(count));
            for UnitEvaluation { unit, action: act, .. } in units {
                let restarted = |why: &String, outcome, error| RestartRecord {
                    at: now,
                    unit: unit.to_string(),
                    reason: why.clone(),
                    outcome,
                    error,
                };
                match act {
                    RestartAction::None
                    | RestartAction::Denied
                    | RestartAction::BudgetUnavailable { .. }
                    | RestartAction::Delayed { .. } => {}
                    RestartAction::Requested { reason: why, .. } => {
                        record.record_restart(restarted(why, RestartOutcome::Accepted, None));
                    }
                    RestartAction::Rejected { error, reason: why } => {
                        let error = Some(error.to_string());
                        record.record_restart(restarted(why, RestartOutcome::Rejected, error));
                    }
                }
            }
        })
    }
}

impl UnitEvaluation {
    /// Returns the findings of all units.
    pub fn all_findings(units: &[Self]) -> impl Iterator<Item = &Finding> {
        units.iter().flat_map(|judged| &judged.findings)
    }

    /// Returns the worst level of all units.
    #[must_use]
    pub fn worst_level(units: &[Self]) -> HealthLevel {
        let levels = units.iter().map(|judged| worst_level(&judged.findings));
        levels.max().unwrap_or(HealthLevel::Unknown)
    }
}

fn evaluate_unit(
    group: MonitoredUnit,
    limits: &WatchLimits,
    now: Timestamp,
    act: impl FnOnce(&[Finding], &MonitoredUnit) -> RestartAction,
) -> (UnitEvaluation, Option<RestartCountSample>) {
    let findings = evaluate(group.unit.as_str(), &group.observation, &group.sources, limits, now);
    let act = act(&findings, &group);
    let count = match group.observation {
        UnitObservation::Observed { unit, .. } => {
            Some(RestartCountSample { at: now, unit: unit.name, restarts: unit.restarts })
        }
        UnitObservation::NoSystemd { .. } | UnitObservation::Unavailable { .. } => None,
    };
    (UnitEvaluation { unit: group.unit, findings, action: act }, count)
}

/// Returns the oldest count within the window. A manual start resets the count of systemd, so
/// counts up to the last one above the current count are ignored.
fn previous_restart_count(
    record: &MonitorRecord,
    unit: &UnitStatus,
    now: Timestamp,
) -> Option<PreviousRestartCount> {
    let counts = record.restart_counts.iter().filter(|count| count.unit == unit.name);
    let mut recent: Vec<&RestartCountSample> = counts
        .filter(|count| count.at <= now && now.since(count.at) <= CRASH_LOOP_WINDOW)
        .collect();
    if let Some(anew) = recent.iter().rposition(|count| count.restarts > unit.restarts) {
        recent.drain(..=anew);
    }
    recent.first().map(|count| PreviousRestartCount { at: count.at, restarts: count.restarts })
}

/// Returns the latest progress of all sources, because progress of any source shows that its unit
/// works.
fn last_progress(sources: &[WatchedSource]) -> Timestamp {
    let progress = sources.iter().filter_map(|source| match &source.state_file {
        StateFileContent::Status(course) => Some(course.last_progress),
        StateFileContent::NeverRun | StateFileContent::Unreadable { .. } => None,
    });
    progress.max().unwrap_or_default()
}
