//! The judgement: what is seen, against what may be.

use crate::engine::watch::{
    ActiveState, Finding, FindingKind, HealthLevel, LoadState, ProcessStatus, RecentStarts, Remedy,
    StateFileContent, Subject, UnitObservation, UnitStatus, WatchLimits, WatchedSource,
    WorkerStatus,
};
use crate::engine::{Cause, Status, Timestamp};

/// Exit codes that systemd is told to leave alone: what a restart cannot cure.
const NON_RESTARTABLE_EXIT_CODES: [i32; 2] = [77, 78];

/// How often the worker itself acts on missing progress: it begins the stage anew, then leaves. When
/// that did not help, a person is needed.
const SELF_HEALING_STEPS: u32 = 2;

/// Judges the unit, then each source: at least one finding for each.
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

/// The worst level of all.
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
        // One that starts with the machine is missed by somebody.
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
        // systemd itself starts it when its pause is over.
        ActiveState::Activating if is_long && unit.sub_state != "auto-restart" => {
            (HealthLevel::Critical, turning, Remedy::Restart)
        }
        ActiveState::Deactivating if is_long => (HealthLevel::Warning, turning, Remedy::None),
        ActiveState::Activating | ActiveState::Deactivating => {
            (HealthLevel::Healthy, FindingKind::UnitTransitioning, Remedy::None)
        }
    };
    // What keeps it down for good is worse than that it keeps coming up.
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
    // Between two processes of the unit nothing is amiss: the unit's own finding says how it stands.
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

/// A worker that is there: does it still decide?
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

/// Work whose deadlines are kept, and which achieves nothing: its worker climbs the ladder by itself,
/// and a restart from here would be one more of what has not helped.
fn detect_stall(
    course: &WorkerStatus,
    limits: &WatchLimits,
    now: Timestamp,
) -> Option<(HealthLevel, FindingKind, Remedy)> {
    let still = limits.trusted_elapsed(course.last_progress.max(course.state_since), now);
    // The deadline of work lies this far behind the moment from which progress was expected: a
    // start, or the end of a wait. What has only just begun cannot have achieved anything.
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

/// A restart of the unit cures only what the unit runs, not a worker that was started by hand.
fn remedy_for(unit: &UnitObservation, pid: u32) -> Remedy {
    match unit {
        UnitObservation::Observed { unit, .. } if unit.main_pid == Some(pid) => Remedy::Restart,
        UnitObservation::Observed { .. }
        | UnitObservation::NoSystemd { .. }
        | UnitObservation::Unavailable { .. } => Remedy::None,
    }
}

/// A worker that has only just been started has not said anything yet.
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
