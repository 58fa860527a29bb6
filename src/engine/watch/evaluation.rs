//! Evaluation of the unit and the sources against the limits.

use crate::engine::watch::{
    ActiveState, Finding, FindingKind, HealthLevel, LoadState, ProcessStatus, RecentStarts, Remedy,
    StateFileContent, Subject, UnitObservation, UnitStatus, WatchLimits, WatchedSource,
    WorkerStatus,
};
use crate::engine::{Cause, Status, Timestamp};

/// Exit codes after which the unit file forbids a restart, because a restart cannot help.
const NON_RESTARTABLE_EXIT_CODES: [i32; 2] = [77, 78];

/// Steps that a worker takes itself on missing progress: it restarts the stage, then exits. If
/// both do not help, manual intervention is required.
const SELF_HEALING_STEPS: u32 = 2;

/// Evaluates the unit, then each source; returns one finding for each.
#[must_use]
pub fn evaluate(
    unit_name: &str,
    unit: &UnitObservation,
    sources: &[WatchedSource],
    limits: &WatchLimits,
    now: Timestamp,
) -> Vec<Finding> {
    let mut findings = vec![evaluate_unit(unit_name, unit, limits, now)];
    findings.extend(sources.iter().map(|source| evaluate_source(source, unit, limits, now)));
    findings
}

/// Returns the worst level of all findings; unknown without findings.
#[must_use]
pub fn worst_level(findings: &[Finding]) -> HealthLevel {
    findings.iter().map(|finding| finding.level).max().unwrap_or(HealthLevel::Unknown)
}

fn evaluate_unit(
    name: &str,
    seen: &UnitObservation,
    limits: &WatchLimits,
    now: Timestamp,
) -> Finding {
    let (level, what, cure) = match seen {
        UnitObservation::NoSystemd { reason: why } => {
            (HealthLevel::Healthy, FindingKind::NoSystemd { reason: why.clone() }, Remedy::None)
        }
        UnitObservation::Unavailable { reason: why, advice: remedy } => {
            let what =
                FindingKind::UnitStateUnknown { reason: why.clone(), advice: remedy.clone() };
            (HealthLevel::Unknown, what, Remedy::None)
        }
        UnitObservation::Observed { unit, recent_starts: lately } => {
            evaluate_observed_unit(unit, *lately, limits, now)
        }
    };
    Finding { level, subject: Subject::Unit(name.to_owned()), kind: what, remedy: cure }
}

fn evaluate_observed_unit(
    unit: &UnitStatus,
    lately: Option<RecentStarts>,
    limits: &WatchLimits,
    now: Timestamp,
) -> (HealthLevel, FindingKind, Remedy) {
    match unit.load_state {
        LoadState::Loaded => {}
        LoadState::NotFound => {
            return (HealthLevel::Healthy, FindingKind::UnitNotInstalled, Remedy::None);
        }
        LoadState::Masked | LoadState::Invalid => {
            return (
                HealthLevel::Critical,
                FindingKind::UnitNotLoaded { load_state: unit.load_state },
                Remedy::None,
            );
        }
    }
    let since = |at: Option<Timestamp>| at.map(|at| now.since(at));
    let runs =
        FindingKind::UnitRunning { uptime: since(unit.active_since), restarts: unit.restarts };
    let turning_since =
        unit.state_changed_at.map(|at| limits.trusted_elapsed(at, now)).unwrap_or_default();
    let turning = FindingKind::UnitStuckTransitioning {
        active_state: unit.active_state,
        duration: turning_since,
    };
    let is_long = turning_since > limits.max_transition;
    let found = match unit.active_state {
        ActiveState::Active | ActiveState::Reloading | ActiveState::Other => {
            (HealthLevel::Healthy, runs, Remedy::None)
        }
        // A unit that starts at boot is meant to run.
        ActiveState::Inactive if unit.unit_file_state == "enabled" => {
            (HealthLevel::Critical, FindingKind::UnitNotRunning, Remedy::None)
        }
        ActiveState::Inactive => (HealthLevel::Warning, FindingKind::UnitNotRunning, Remedy::None),
        ActiveState::Failed => {
            let result = unit.result.clone();
            let limit = Some(unit.start_limit).filter(|limit| !limit.interval.is_zero());
            let what = FindingKind::UnitFailed {
                result,
                exit_status: unit.exit_status,
                start_limit: limit,
            };
            let is_final = unit.result == "exit-code"
                && NON_RESTARTABLE_EXIT_CODES.contains(&unit.exit_status);
            (HealthLevel::Critical, what, if is_final { Remedy::None } else { Remedy::Restart })
        }
        // In `auto-restart`, systemd starts it after its restart delay.
        ActiveState::Activating if is_long && unit.sub_state != "auto-restart" => {
            (HealthLevel::Critical, turning, Remedy::Restart)
        }
        ActiveState::Deactivating if is_long => (HealthLevel::Warning, turning, Remedy::None),
        ActiveState::Activating | ActiveState::Deactivating => {
            (HealthLevel::Healthy, FindingKind::UnitTransitioning, Remedy::None)
        }
    };
    // A critical finding keeps the unit down, which is worse than a crash loop.
    match lately.filter(|lately| lately.starts > limits.max_starts) {
        Some(lately) if found.0 < HealthLevel::Critical => {
            (HealthLevel::Warning, FindingKind::CrashLoop(lately), Remedy::None)
        }
        Some(_) | None => found,
    }
}

fn evaluate_source(
    source: &WatchedSource,
    unit: &UnitObservation,
    limits: &WatchLimits,
    now: Timestamp,
) -> Finding {
    let (level, what, cure) = match &source.state_file {
        StateFileContent::NeverRun => (HealthLevel::Warning, FindingKind::NeverRun, Remedy::None),
        StateFileContent::Unreadable { reason: why } => (
            HealthLevel::Unknown,
            FindingKind::StateUnreadable { reason: why.clone() },
            Remedy::None,
        ),
        StateFileContent::Status(course) => match course.process {
            ProcessStatus::Running { pid } => evaluate_running(course, pid, unit, limits, now),
            ProcessStatus::Died { pid } => {
                (HealthLevel::Critical, FindingKind::Died { pid }, Remedy::None)
            }
            ProcessStatus::Exited => evaluate_exited(course),
        },
    };
    // Between two processes of the unit its sources are healthy; the unit has its own finding.
    let (level, what) = match &source.state_file {
        StateFileContent::Status(WorkerStatus {
            process: ProcessStatus::Running { .. }, ..
        })
        | StateFileContent::Unreadable { .. } => (level, what),
        StateFileContent::Status(_) | StateFileContent::NeverRun
            if is_being_started(unit, limits, now) =>
        {
            (HealthLevel::Healthy, FindingKind::Starting)
        }
        StateFileContent::Status(_) | StateFileContent::NeverRun => (level, what),
    };
    Finding { level, subject: Subject::Source(source.name.clone()), kind: what, remedy: cure }
}

/// Evaluates a running worker: clock skew, missed deadline, errors, credential, progress.
fn evaluate_running(
    course: &WorkerStatus,
    pid: u32,
    unit: &UnitObservation,
    limits: &WatchLimits,
    now: Timestamp,
) -> (HealthLevel, FindingKind, Remedy) {
    let status = course.status;
    let ahead = limits.trusted_elapsed(now, course.last_updated);
    if ahead > limits.grace {
        return (HealthLevel::Warning, FindingKind::ClockSkew { ahead_by: ahead }, Remedy::None);
    }
    let late = course.until.map(|until| limits.trusted_elapsed(until, now)).unwrap_or_default();
    if late > limits.grace {
        return (
            HealthLevel::Critical,
            FindingKind::Overdue { status, late_by: late, pid },
            remedy_for(unit, pid),
        );
    }
    let left = course.until.map(|until| until.since(now)).unwrap_or_default();
    let reason = course.reason.clone();
    let errors = course.consecutive_errors;
    if errors >= limits.max_consecutive_errors && status != Status::AuthFailed {
        let limit = limits.max_consecutive_errors;
        return (
            HealthLevel::Critical,
            FindingKind::Failing { errors, limit, reason },
            Remedy::None,
        );
    }
    match status {
        Status::AuthFailed => {
            let since = now.since(course.state_since);
            let what = match course.last_cause {
                Some(Cause::AccountChanged) => {
                    FindingKind::AccountChanged { duration: since, reason }
                }
                Some(_) | None => FindingKind::CredentialRefused { duration: since, reason },
            };
            (HealthLevel::Critical, what, Remedy::None)
        }
        Status::Collecting | Status::Downloading => detect_stall(course, limits, now).unwrap_or((
            HealthLevel::Healthy,
            FindingKind::Healthy { status },
            Remedy::None,
        )),
        Status::Error => (
            HealthLevel::Warning,
            FindingKind::Waiting { status, remaining: left, reason },
            Remedy::None,
        ),
        Status::RateLimited => (
            HealthLevel::Healthy,
            FindingKind::Waiting { status, remaining: left, reason },
            Remedy::None,
        ),
        Status::Idle | Status::Completed => {
            (HealthLevel::Healthy, FindingKind::Healthy { status }, Remedy::None)
        }
    }
}

/// Detects work that meets its deadlines but makes no progress. There is no remedy, because the
/// worker already restarts the stage and then itself; another restart would not help more.
fn detect_stall(
    course: &WorkerStatus,
    limits: &WatchLimits,
    now: Timestamp,
) -> Option<(HealthLevel, FindingKind, Remedy)> {
    let still = limits.trusted_elapsed(course.last_progress.max(course.state_since), now);
    // The deadline of work is `stuck_threshold` after the time from which progress is expected: a
    // start, or the end of a wait. Work that has just begun cannot have made progress.
    let expected_from = course.until?.before(limits.stuck_threshold);
    if still <= limits.stuck_threshold || now.since(expected_from) <= limits.grace {
        return None;
    }
    let patience =
        limits.stuck_threshold.saturating_mul(SELF_HEALING_STEPS).saturating_add(limits.grace);
    let level = if still > patience { HealthLevel::Critical } else { HealthLevel::Warning };
    Some((level, FindingKind::Stalled { status: course.status, stalled_for: still }, Remedy::None))
}

fn evaluate_exited(course: &WorkerStatus) -> (HealthLevel, FindingKind, Remedy) {
    let status = course.status;
    match status {
        Status::Idle | Status::Completed => {
            (HealthLevel::Healthy, FindingKind::Healthy { status }, Remedy::None)
        }
        Status::Collecting
        | Status::Downloading
        | Status::Error
        | Status::RateLimited
        | Status::AuthFailed => {
            (HealthLevel::Warning, FindingKind::Stopped { status }, Remedy::None)
        }
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
