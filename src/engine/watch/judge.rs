//! The judgement: what is seen, against what may be.

use crate::engine::watch::{
    Activity, Course, Cure, Finding, Lately, Level, Limits, Load, Process, Subject, Told, UnitSeen,
    UnitStatus, Watched, What,
};
use crate::engine::{Cause, Status, Timestamp};

/// Exit codes that systemd is told to leave alone: what a restart cannot cure.
const NO_RESTART_HELPS: [i32; 2] = [77, 78];

/// How often the worker itself acts on missing progress: it begins the stage anew, then leaves. When
/// that did not help, a person is needed.
const RUNGS_OF_ITS_OWN: u32 = 2;

/// Judges the unit, then each source: at least one finding for each.
#[must_use]
pub fn judge(
    unit_name: &str,
    unit: &UnitSeen,
    sources: &[Watched],
    limits: &Limits,
    now: Timestamp,
) -> Vec<Finding> {
    let mut findings = vec![of_unit(unit_name, unit, limits, now)];
    findings.extend(sources.iter().map(|source| of_source(source, unit, limits, now)));
    findings
}

/// The worst level of all.
#[must_use]
pub fn worst(findings: &[Finding]) -> Level {
    findings.iter().map(|finding| finding.level).max().unwrap_or(Level::Unknown)
}

fn of_unit(name: &str, seen: &UnitSeen, limits: &Limits, now: Timestamp) -> Finding {
    let (level, what, cure) = match seen {
        UnitSeen::NoSystemd { why } => {
            (Level::Healthy, What::NoSystemd { why: why.clone() }, Cure::None)
        }
        UnitSeen::Untold { why, remedy } => {
            let what = What::UnitUntold { why: why.clone(), remedy: remedy.clone() };
            (Level::Unknown, what, Cure::None)
        }
        UnitSeen::Known { unit, lately } => known_unit(unit, *lately, limits, now),
    };
    Finding { level, about: Subject::Unit(name.to_owned()), what, cure }
}

fn known_unit(
    unit: &UnitStatus,
    lately: Option<Lately>,
    limits: &Limits,
    now: Timestamp,
) -> (Level, What, Cure) {
    match unit.load {
        Load::Loaded => {}
        Load::NotFound => return (Level::Healthy, What::NotInstalled, Cure::None),
        Load::Masked | Load::Broken => {
            return (Level::Critical, What::CannotLoad { load: unit.load }, Cure::None);
        }
    }
    let since = |at: Option<Timestamp>| at.map(|at| now.since(at));
    let runs = What::UnitRuns { since: since(unit.active_since), restarts: unit.restarts };
    let turning_since = unit.changed.map(|at| limits.known_since(at, now)).unwrap_or_default();
    let turning = What::Turning { activity: unit.activity, since: turning_since };
    let is_long = turning_since > limits.max_turn;
    let found = match unit.activity {
        Activity::Active | Activity::Reloading | Activity::Other => {
            (Level::Healthy, runs, Cure::None)
        }
        // One that starts with the machine is missed by somebody.
        Activity::Inactive if unit.unit_file_state == "enabled" => {
            (Level::Critical, What::NotRunning, Cure::None)
        }
        Activity::Inactive => (Level::Warning, What::NotRunning, Cure::None),
        Activity::Failed => {
            let result = unit.result.clone();
            let limit = Some(unit.start_limit).filter(|limit| !limit.interval.is_zero());
            let what = What::UnitFailed { result, exit_status: unit.exit_status, limit };
            let is_final =
                unit.result == "exit-code" && NO_RESTART_HELPS.contains(&unit.exit_status);
            (Level::Critical, what, if is_final { Cure::None } else { Cure::Restart })
        }
        // systemd itself starts it when its pause is over.
        Activity::Activating if is_long && unit.sub_state != "auto-restart" => {
            (Level::Critical, turning, Cure::Restart)
        }
        Activity::Deactivating if is_long => (Level::Warning, turning, Cure::None),
        Activity::Activating | Activity::Deactivating => {
            (Level::Healthy, What::UnitTurns, Cure::None)
        }
    };
    // What keeps it down for good is worse than that it keeps coming up.
    match lately.filter(|lately| lately.starts > limits.max_starts) {
        Some(lately) if found.0 < Level::Critical => {
            (Level::Warning, What::CrashLoop(lately), Cure::None)
        }
        Some(_) | None => found,
    }
}

fn of_source(source: &Watched, unit: &UnitSeen, limits: &Limits, now: Timestamp) -> Finding {
    let (level, what, cure) = match &source.told {
        Told::NeverRun => (Level::Warning, What::NeverRun, Cure::None),
        Told::Nothing { why } => (Level::Unknown, What::Untold { why: why.clone() }, Cure::None),
        Told::Course(course) => match course.process {
            Process::Running { pid } => running(course, pid, unit, limits, now),
            Process::Died { pid } => (Level::Critical, What::Died { pid }, Cure::None),
            Process::Left => left(course),
        },
    };
    // Between two processes of the unit nothing is amiss: the unit's own finding says how it stands.
    let (level, what) = match &source.told {
        Told::Course(Course { process: Process::Running { .. }, .. }) | Told::Nothing { .. } => {
            (level, what)
        }
        Told::Course(_) | Told::NeverRun if is_being_started(unit, limits, now) => {
            (Level::Healthy, What::Starting)
        }
        Told::Course(_) | Told::NeverRun => (level, what),
    };
    Finding { level, about: Subject::Source(source.name.clone()), what, cure }
}

/// A worker that is there: does it still decide?
fn running(
    course: &Course,
    pid: u32,
    unit: &UnitSeen,
    limits: &Limits,
    now: Timestamp,
) -> (Level, What, Cure) {
    let status = course.status;
    let ahead = limits.known_since(now, course.last_updated);
    if ahead > limits.grace {
        return (Level::Warning, What::FromTheFuture { by: ahead }, Cure::None);
    }
    let late = course.until.map(|until| limits.known_since(until, now)).unwrap_or_default();
    if late > limits.grace {
        return (Level::Critical, What::Overdue { status, by: late, pid }, cure(unit, pid));
    }
    let left = course.until.map(|until| until.since(now)).unwrap_or_default();
    let reason = course.reason.clone();
    let errors = course.consecutive_errors;
    if errors >= limits.max_consecutive_errors && status != Status::AuthFailed {
        let limit = limits.max_consecutive_errors;
        return (Level::Critical, What::Failing { errors, limit, reason }, Cure::None);
    }
    match status {
        Status::AuthFailed => {
            let since = now.since(course.state_since);
            let what = match course.last_cause {
                Some(Cause::AccountChanged) => What::AccountChanged { since, reason },
                Some(_) | None => What::CredentialRefused { since, reason },
            };
            (Level::Critical, what, Cure::None)
        }
        Status::Collecting | Status::Downloading => stalled(course, limits, now).unwrap_or((
            Level::Healthy,
            What::InOrder { status },
            Cure::None,
        )),
        Status::Error => (Level::Warning, What::Waiting { status, left, reason }, Cure::None),
        Status::RateLimited => (Level::Healthy, What::Waiting { status, left, reason }, Cure::None),
        Status::Idle | Status::Completed => (Level::Healthy, What::InOrder { status }, Cure::None),
    }
}

/// Work whose deadlines are kept, and which achieves nothing: its worker climbs the ladder by itself,
/// and a restart from here would be one more of what has not helped.
fn stalled(course: &Course, limits: &Limits, now: Timestamp) -> Option<(Level, What, Cure)> {
    let still = limits.known_since(course.last_progress.max(course.state_since), now);
    // The deadline of work lies this far behind the moment from which progress was expected: a
    // start, or the end of a wait. What has only just begun cannot have achieved anything.
    let expected_from = course.until?.before(limits.stuck_threshold);
    if still <= limits.stuck_threshold || now.since(expected_from) <= limits.grace {
        return None;
    }
    let patience =
        limits.stuck_threshold.saturating_mul(RUNGS_OF_ITS_OWN).saturating_add(limits.grace);
    let level = if still > patience { Level::Critical } else { Level::Warning };
    Some((level, What::Stalled { status: course.status, still }, Cure::None))
}

fn left(course: &Course) -> (Level, What, Cure) {
    let status = course.status;
    match status {
        Status::Idle | Status::Completed => (Level::Healthy, What::InOrder { status }, Cure::None),
        Status::Collecting
        | Status::Downloading
        | Status::Error
        | Status::RateLimited
        | Status::AuthFailed => (Level::Warning, What::Stopped { status }, Cure::None),
    }
}

/// A restart of the unit cures only what the unit runs, not a worker that was started by hand.
fn cure(unit: &UnitSeen, pid: u32) -> Cure {
    match unit {
        UnitSeen::Known { unit, .. } if unit.main_pid == Some(pid) => Cure::Restart,
        UnitSeen::Known { .. } | UnitSeen::NoSystemd { .. } | UnitSeen::Untold { .. } => Cure::None,
    }
}

/// A worker that has only just been started has not said anything yet.
fn is_being_started(unit: &UnitSeen, limits: &Limits, now: Timestamp) -> bool {
    match unit {
        UnitSeen::Known { unit, .. } => match unit.activity {
            Activity::Activating => true,
            Activity::Active | Activity::Reloading => {
                unit.active_since.is_some_and(|since| now.since(since) <= limits.max_turn)
            }
            Activity::Inactive | Activity::Failed | Activity::Deactivating | Activity::Other => {
                false
            }
        },
        UnitSeen::NoSystemd { .. } | UnitSeen::Untold { .. } => false,
    }
}
