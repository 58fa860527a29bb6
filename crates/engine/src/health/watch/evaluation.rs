//! Evaluation of the unit and the sources against the limits.

use crate::health::watch::{
    ActiveState, Diagnosis, LoadState, ProcessStatus, RecentStarts, StateFileContent,
    UnitObservation, UnitStatus, WatchLimits, WatchedSource, WorkerStatus,
};
use crate::health::{CheckKind, Finding, HealthLevel, Remedy};
use crate::{Cause, Status, Timestamp};

/// Exit codes after which the unit file forbids a restart, because a restart cannot help.
const NON_RESTARTABLE_EXIT_CODES: [i32; 2] = [77, 78];

/// Steps that a worker takes itself on missing progress: it restarts the phase, then exits. If both
/// do not help, manual intervention is required.
const SELF_HEALING_STEPS: u32 = 2;

/// Level of a unit or source, with the reason, and the action that is likely to help.
type Evaluation = (HealthLevel, Diagnosis, Remedy);

/// Evaluates the unit, then each source; returns one finding for each.
#[must_use]
pub fn evaluate(
    unit_name: &str,
    unit: &UnitObservation,
    sources: &[WatchedSource],
    limits: &WatchLimits,
    now: Timestamp,
) -> Vec<Finding> {
    let installed_unit = is_installed(unit).then_some(unit_name);
    let to_finding = |check, subject: &str, (level, diagnosis, remedy): Evaluation| {
        diagnosis.into_finding((check, subject), level, remedy, installed_unit, limits)
    };
    let unit_finding = to_finding(CheckKind::Service, unit_name, evaluate_unit(unit, limits, now));
    let source_findings = sources.iter().map(|source| {
        let evaluation = evaluate_source(source, unit, limits, now);
        to_finding(CheckKind::Execution, &source.name, evaluation)
    });
    std::iter::once(unit_finding).chain(source_findings).collect()
}

/// Returns true if systemd has the unit. A worker started by other means has no journal, and
/// `systemctl` does not apply to it.
fn is_installed(observation: &UnitObservation) -> bool {
    match observation {
        UnitObservation::Observed { unit, .. } => unit.load_state != LoadState::NotFound,
        UnitObservation::Unavailable { .. } => true,
        UnitObservation::NoSystemd { .. } => false,
    }
}

fn evaluate_unit(
    observation: &UnitObservation,
    limits: &WatchLimits,
    now: Timestamp,
) -> Evaluation {
    match observation {
        UnitObservation::NoSystemd { reason } => {
            (HealthLevel::Skipped, Diagnosis::NoSystemd { reason: reason.clone() }, Remedy::None)
        }
        UnitObservation::Unavailable { reason, advice } => {
            let kind =
                Diagnosis::UnitStateUnknown { reason: reason.clone(), advice: advice.clone() };
            (HealthLevel::Unknown, kind, Remedy::None)
        }
        UnitObservation::Observed { unit, recent_starts } => {
            evaluate_observed_unit(unit, *recent_starts, limits, now)
        }
    }
}

fn evaluate_observed_unit(
    unit: &UnitStatus,
    recent_starts: Option<RecentStarts>,
    limits: &WatchLimits,
    now: Timestamp,
) -> Evaluation {
    match unit.load_state {
        LoadState::Loaded => {}
        LoadState::NotFound => {
            return (HealthLevel::Healthy, Diagnosis::UnitNotInstalled, Remedy::None);
        }
        LoadState::Masked | LoadState::Invalid => {
            return (
                HealthLevel::Critical,
                Diagnosis::UnitNotLoaded { load_state: unit.load_state },
                Remedy::None,
            );
        }
    }
    let since = |at: Option<Timestamp>| at.map(|at| now.since(at));
    let running =
        Diagnosis::UnitRunning { uptime: since(unit.active_since), restarts: unit.restarts };
    let transition_duration =
        unit.state_changed_at.map(|at| limits.trusted_elapsed(at, now)).unwrap_or_default();
    let stuck = Diagnosis::UnitStuckTransitioning {
        active_state: unit.active_state,
        duration: transition_duration,
    };
    let is_stuck = transition_duration > limits.max_transition;
    let found = match unit.active_state {
        ActiveState::Active | ActiveState::Reloading | ActiveState::Other => {
            (HealthLevel::Healthy, running, Remedy::None)
        }
        // A unit that starts at boot is meant to run.
        ActiveState::Inactive if unit.unit_file_state == "enabled" => {
            (HealthLevel::Critical, Diagnosis::UnitNotRunning, Remedy::None)
        }
        ActiveState::Inactive => (HealthLevel::Warning, Diagnosis::UnitNotRunning, Remedy::None),
        ActiveState::Failed => {
            let result = unit.result.clone();
            let start_limit = Some(unit.start_limit).filter(|limit| !limit.interval.is_zero());
            let kind = Diagnosis::UnitFailed { result, exit_status: unit.exit_status, start_limit };
            let is_permanent = unit.result == "exit-code"
                && NON_RESTARTABLE_EXIT_CODES.contains(&unit.exit_status);
            (HealthLevel::Critical, kind, if is_permanent { Remedy::None } else { Remedy::Restart })
        }
        // In `auto-restart`, systemd starts it after its restart delay.
        ActiveState::Activating if is_stuck && unit.sub_state != "auto-restart" => {
            (HealthLevel::Critical, stuck, Remedy::Restart)
        }
        ActiveState::Deactivating if is_stuck => (HealthLevel::Warning, stuck, Remedy::None),
        ActiveState::Activating | ActiveState::Deactivating => {
            (HealthLevel::Healthy, Diagnosis::UnitTransitioning, Remedy::None)
        }
    };
    // A critical finding keeps the unit down, which is worse than a crash loop.
    match recent_starts.filter(|recent_starts| recent_starts.starts > limits.max_starts) {
        Some(recent_starts) if found.0 < HealthLevel::Critical => {
            (HealthLevel::Warning, Diagnosis::CrashLoop(recent_starts), Remedy::None)
        }
        Some(_) | None => found,
    }
}

fn evaluate_source(
    source: &WatchedSource,
    unit: &UnitObservation,
    limits: &WatchLimits,
    now: Timestamp,
) -> Evaluation {
    let (level, diagnosis, remedy) = match &source.state_file {
        StateFileContent::NeverRun => (HealthLevel::Warning, Diagnosis::NeverRun, Remedy::None),
        StateFileContent::Unreadable { reason } => (
            HealthLevel::Unknown,
            Diagnosis::StateUnreadable { reason: reason.clone() },
            Remedy::None,
        ),
        StateFileContent::Status(worker) => match worker.process {
            ProcessStatus::Running { pid } => evaluate_running(worker, pid, unit, limits, now),
            ProcessStatus::Died { pid } => {
                (HealthLevel::Critical, Diagnosis::Died { pid }, Remedy::None)
            }
            ProcessStatus::Exited => evaluate_exited(worker),
        },
    };
    // Between two processes of the unit its sources are healthy; the unit has its own finding.
    match &source.state_file {
        StateFileContent::Status(WorkerStatus {
            process: ProcessStatus::Running { .. }, ..
        })
        | StateFileContent::Unreadable { .. } => (level, diagnosis, remedy),
        StateFileContent::Status(_) | StateFileContent::NeverRun
            if is_being_started(unit, limits, now) =>
        {
            (HealthLevel::Healthy, Diagnosis::Starting, remedy)
        }
        StateFileContent::Status(_) | StateFileContent::NeverRun => (level, diagnosis, remedy),
    }
}

/// Evaluates a running worker: clock skew, missed deadline, errors, credential, progress.
fn evaluate_running(
    worker: &WorkerStatus,
    pid: u32,
    unit: &UnitObservation,
    limits: &WatchLimits,
    now: Timestamp,
) -> Evaluation {
    let status = worker.status;
    let ahead_by = limits.trusted_elapsed(now, worker.last_updated);
    if ahead_by > limits.grace {
        return (HealthLevel::Warning, Diagnosis::ClockSkew { ahead_by }, Remedy::None);
    }
    let late_by = worker.until.map(|until| limits.trusted_elapsed(until, now)).unwrap_or_default();
    if late_by > limits.grace {
        return (
            HealthLevel::Critical,
            Diagnosis::Overdue { status, late_by, pid },
            remedy_for(unit, pid),
        );
    }
    let remaining = worker.until.map(|until| until.since(now)).unwrap_or_default();
    let reason = worker.reason.clone();
    let errors = worker.consecutive_errors;
    if errors >= limits.max_consecutive_errors && status != Status::AuthFailed {
        let limit = limits.max_consecutive_errors;
        return (HealthLevel::Critical, Diagnosis::Failing { errors, limit, reason }, Remedy::None);
    }
    match status {
        Status::AuthFailed => {
            let duration = now.since(worker.state_since);
            let kind = match worker.last_cause {
                Some(Cause::AccountChanged) => Diagnosis::AccountChanged { duration, reason },
                Some(_) | None => Diagnosis::CredentialRefused { duration, reason },
            };
            (HealthLevel::Critical, kind, Remedy::None)
        }
        Status::Collecting | Status::Downloading => detect_stall(worker, limits, now).unwrap_or((
            HealthLevel::Healthy,
            Diagnosis::Healthy { status },
            Remedy::None,
        )),
        Status::Error => {
            (HealthLevel::Warning, Diagnosis::Waiting { status, remaining, reason }, Remedy::None)
        }
        Status::RateLimited => {
            (HealthLevel::Healthy, Diagnosis::Waiting { status, remaining, reason }, Remedy::None)
        }
        Status::Idle | Status::Completed => {
            (HealthLevel::Healthy, Diagnosis::Healthy { status }, Remedy::None)
        }
    }
}

/// Detects work that meets its deadlines but makes no progress. There is no remedy, because the
/// worker already restarts the phase and then itself; another restart would not help more.
fn detect_stall(worker: &WorkerStatus, limits: &WatchLimits, now: Timestamp) -> Option<Evaluation> {
    let stalled_for = limits.trusted_elapsed(worker.last_progress.max(worker.state_since), now);
    // The deadline of work is `stuck_threshold` after the time from which progress is expected: a
    // start, or the end of a wait. Work that has just begun cannot have made progress.
    let expected_from = worker.until?.before(limits.stuck_threshold);
    if stalled_for <= limits.stuck_threshold || now.since(expected_from) <= limits.grace {
        return None;
    }
    let critical_after =
        limits.stuck_threshold.saturating_mul(SELF_HEALING_STEPS).saturating_add(limits.grace);
    let level =
        if stalled_for > critical_after { HealthLevel::Critical } else { HealthLevel::Warning };
    Some((level, Diagnosis::Stalled { status: worker.status, stalled_for }, Remedy::None))
}

fn evaluate_exited(worker: &WorkerStatus) -> Evaluation {
    let status = worker.status;
    match status {
        Status::Idle | Status::Completed => {
            (HealthLevel::Healthy, Diagnosis::Healthy { status }, Remedy::None)
        }
        Status::Collecting
        | Status::Downloading
        | Status::Error
        | Status::RateLimited
        | Status::AuthFailed => (HealthLevel::Warning, Diagnosis::Stopped { status }, Remedy::None),
    }
}

/// Returns the remedy for an overdue worker. A restart of the unit helps only if the unit runs
/// this worker, not if the worker was started by hand.
fn remedy_for(unit: &UnitObservation, pid: u32) -> Remedy {
    match unit {
        UnitObservation::Observed { unit, .. } if unit.main_pid == Some(pid) => Remedy::Restart,
        UnitObservation::Observed { .. }
        | UnitObservation::NoSystemd { .. }
        | UnitObservation::Unavailable { .. } => Remedy::None,
    }
}

/// Returns true if the unit is starting or has just started: its worker has not reported yet.
fn is_being_started(unit: &UnitObservation, limits: &WatchLimits, now: Timestamp) -> bool {
    match unit {
        UnitObservation::Observed { unit, .. } => match unit.active_state {
            ActiveState::Activating => true,
            ActiveState::Active | ActiveState::Reloading => {
                unit.active_since.is_some_and(|since| now.since(since) <= limits.max_transition)
            }
            ActiveState::Inactive
            | ActiveState::Failed
            | ActiveState::Deactivating
            | ActiveState::Other => false,
        },
        UnitObservation::NoSystemd { .. } | UnitObservation::Unavailable { .. } => false,
    }
}
