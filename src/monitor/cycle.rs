//! Monitor cycle: collects the status of units and sources, evaluates it, restarts units and
//! records the result.

use std::time::Duration;

use cynosure_engine::health::watch::{
    StateFileContent, UnitObservation, UnitStatus, WatchLimits, WatchedSource, evaluate,
};
use cynosure_engine::health::{CheckKind, Finding, Remedy};
use cynosure_engine::{Failure, Timestamp};

use crate::monitor::monitor_file::{
    MonitorFile, MonitorRecord, RestartCountSample, RestartOutcome, RestartRecord,
};
use crate::monitor::status_collector::{
    MonitoredUnit, PreviousRestartCount, SourceStates, StatusCollector,
};
use crate::monitor::unit_evaluation::{RestartAction, UnitEvaluation};
use crate::systemd::{RestartBudgetFile, UnitName};

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
    /// States from which the findings were made.
    pub states: SourceStates,
    pub units: Vec<UnitEvaluation>,
    /// Failure to record the cycle in `monitor.json`.
    pub record_failure: Option<Failure>,
}

impl Monitor {
    #[must_use]
    pub fn new(
        status_collector: StatusCollector,
        limits: WatchLimits,
        restart_policy: RestartPolicy,
    ) -> Self {
        let monitor_file = MonitorFile::new(&status_collector.state_dir);
        let restart_budget = RestartBudgetFile::new(&status_collector.state_dir);
        Self { status_collector, limits, restart_policy, monitor_file, restart_budget }
    }

    /// Evaluates all units and changes nothing.
    #[must_use]
    pub fn evaluate(&self, now: Timestamp) -> CycleResult {
        let states = self.status_collector.read_states();
        let evaluate =
            |monitored| evaluate_unit(monitored, &self.limits, now, |_, _| RestartAction::None).0;
        let units = self.collect_units(&states, now).into_iter().map(evaluate).collect();
        CycleResult { states, units, record_failure: None }
    }

    /// Reads the record of earlier cycles.
    ///
    /// # Errors
    /// A storage failure.
    pub fn read_record(&self) -> Result<MonitorRecord, Failure> {
        self.monitor_file.read_or_default()
    }

    /// Runs one cycle: evaluates all units, restarts those that need it as far as the policy
    /// allows, and records the result. Blocks for a few times the bus timeout at most.
    /// `clock_stable_for` returns the time since the last clock step, as far as known; it is called
    /// after everything is read.
    pub fn run_cycle(
        &self,
        now: Timestamp,
        clock_stable_for: impl FnOnce() -> Duration,
    ) -> CycleResult {
        let (mut units, mut counts) = (Vec::new(), Vec::new());
        let states = self.status_collector.read_states();
        let monitored_units = self.collect_units(&states, now);
        let limits = WatchLimits { clock_stable_for: clock_stable_for(), ..self.limits };
        for monitored in monitored_units {
            let take_action = |findings: &[Finding], monitored: &MonitoredUnit| {
                self.restart_if_needed(findings, monitored, now)
            };
            let (evaluation, count) = evaluate_unit(monitored, &limits, now, take_action);
            units.push(evaluation);
            counts.extend(count);
        }
        let record_failure = self.save_record(&units, counts, now).err();
        CycleResult { states, units, record_failure }
    }

    fn collect_units(&self, states: &SourceStates, now: Timestamp) -> Vec<MonitoredUnit> {
        // Without a readable record there is no count to compare with, but the units are still
        // checked.
        let record = self.monitor_file.read_or_default().unwrap_or_default();
        let previous_count = |unit: &UnitStatus| previous_restart_count(&record, unit, now);
        self.status_collector.collect_units(states, previous_count, now)
    }

    fn restart_if_needed(
        &self,
        findings: &[Finding],
        monitored: &MonitoredUnit,
        now: Timestamp,
    ) -> RestartAction {
        let Some(finding) = findings.iter().find(|finding| finding.remedy == Remedy::Restart)
        else {
            return RestartAction::None;
        };
        let rule = if finding.check == CheckKind::Service {
            self.restart_policy.failed_unit
        } else {
            self.restart_policy.stuck_worker
        };
        if rule == RestartRule::Denied {
            return RestartAction::Denied;
        }
        let reason = format!("{}: {}", finding.subject, finding.message);
        let (unit, progress) = (&monitored.unit, last_progress(&monitored.sources));
        let not_before = self.restart_allowed_at(unit, progress, now);
        if not_before > now {
            return RestartAction::Delayed { not_before, reason };
        }
        // Counted before the restart, so that a monitor that crashes on it does not repeat it
        // forever.
        let permit = match self.restart_budget.request_restart(unit.as_str(), progress, now) {
            Ok(permit) => permit,
            // Without a stored budget nothing would limit restarts, so none is requested.
            Err(failure) => return RestartAction::BudgetUnavailable { failure },
        };
        match self.status_collector.bus.restart_unit(unit) {
            Ok(()) => RestartAction::Requested { permit, reason },
            Err(error) => RestartAction::Rejected { error, reason },
        }
    }

    /// Returns the earliest time at which the budget allows a restart, without counting one.
    fn restart_allowed_at(
        &self,
        unit: &UnitName,
        progress: Timestamp,
        now: Timestamp,
    ) -> Timestamp {
        let budgets = self.restart_budget.read_or_default().unwrap_or_default();
        let mut budget = budgets.get(unit.as_str()).copied().unwrap_or_default();
        budget.request_restart(progress, now).not_before
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
            for UnitEvaluation { unit, action, .. } in units {
                let restart_record = |reason: &String, outcome, error| RestartRecord {
                    at: now,
                    unit: unit.to_string(),
                    reason: reason.clone(),
                    outcome,
                    error,
                };
                match action {
                    RestartAction::None
                    | RestartAction::Denied
                    | RestartAction::BudgetUnavailable { .. }
                    | RestartAction::Delayed { .. } => {}
                    RestartAction::Requested { reason, .. } => {
                        let restart = restart_record(reason, RestartOutcome::Accepted, None);
                        record.record_restart(restart);
                    }
                    RestartAction::Rejected { error, reason } => {
                        let error = Some(error.to_string());
                        let restart = restart_record(reason, RestartOutcome::Rejected, error);
                        record.record_restart(restart);
                    }
                }
            }
        })
    }
}

fn evaluate_unit(
    monitored: MonitoredUnit,
    limits: &WatchLimits,
    now: Timestamp,
    take_action: impl FnOnce(&[Finding], &MonitoredUnit) -> RestartAction,
) -> (UnitEvaluation, Option<RestartCountSample>) {
    let findings =
        evaluate(monitored.unit.as_str(), &monitored.observation, &monitored.sources, limits, now);
    let action = take_action(&findings, &monitored);
    let count = match monitored.observation {
        UnitObservation::Observed { unit, .. } => {
            Some(RestartCountSample { at: now, unit: unit.name, restarts: unit.restarts })
        }
        UnitObservation::NoSystemd { .. } | UnitObservation::Unavailable { .. } => None,
    };
    (UnitEvaluation { unit: monitored.unit, findings, action }, count)
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
    let is_before_reset = |count: &&RestartCountSample| count.restarts > unit.restarts;
    if let Some(last_before_reset) = recent.iter().rposition(is_before_reset) {
        recent.drain(..=last_before_reset);
    }
    recent.first().map(|count| PreviousRestartCount { at: count.at, restarts: count.restarts })
}

/// Returns the latest progress of all sources, because progress of any source shows that its unit
/// works.
fn last_progress(sources: &[WatchedSource]) -> Timestamp {
    let progress = sources.iter().filter_map(|source| match &source.state_file {
        StateFileContent::Status(worker) => Some(worker.last_progress),
        StateFileContent::NeverRun | StateFileContent::Unreadable { .. } => None,
    });
    progress.max().unwrap_or_default()
}
