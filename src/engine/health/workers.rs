//! Checks of the units and of each source's work, from the findings of
//! [`crate::engine::health::watch`].

use crate::engine::health::sources::SESSION_TOO_LONG;
use crate::engine::health::watch::{
    Finding, FindingKind, HealthLevel, Subject, installed_unit, log_advice,
};
use crate::engine::health::{CheckKind, HealthCheck, HealthInputs, HealthLimits, or_healthy};
use crate::engine::restart_budget::RESTARTS_MAX;
use crate::engine::{Timestamp, format_duration};

/// Finding about a unit or source that restarts too often.
pub(super) const CRASH_LOOP: &str = "crash_loop";

/// Checks the units: active, running, and not in a crash loop.
pub(super) fn check_units(inputs: &HealthInputs, limits: &HealthLimits) -> Vec<HealthCheck> {
    let is_about_unit =
        |(_, finding): &(&str, &Finding)| matches!(finding.subject, Subject::Unit(_));
    let unit_findings = inputs.findings_by_unit().filter(is_about_unit);
    let mut checks: Vec<HealthCheck> = unit_findings
        .map(|(unit, finding)| to_check(CheckKind::Service, finding, Some(unit), limits))
        .collect();
    match &inputs.crash_loops {
        Ok(loops) => {
            for (name, count) in loops.iter().filter(|(name, _)| is_unit_name(inputs, name)) {
                let is_reported =
                    |check: &HealthCheck| check.finding == CRASH_LOOP && check.subject == *name;
                if !checks.iter().any(is_reported) {
                    checks.push(crash_loop_check(CheckKind::Service, name, Some(name), *count));
                }
            }
        }
        Err(reason) => checks.push(HealthCheck::unknown(CheckKind::Service, reason)),
    }
    checks
}

/// Checks the work of each source; one check per source, and one per crash loop.
pub(super) fn check_workers(
    inputs: &HealthInputs,
    limits: &HealthLimits,
    now: Timestamp,
) -> Vec<HealthCheck> {
    let mut checks = Vec::new();
    for (unit, finding) in inputs.findings_by_unit() {
        let Subject::Source(name) = &finding.subject else { continue };
        let session_check = check_session_age(inputs, name, limits, now);
        let session_check = session_check.filter(|_| finding.level == HealthLevel::Healthy);
        let unit = installed_unit(unit, &inputs.findings);
        checks.push(
            session_check.unwrap_or_else(|| to_check(CheckKind::Execution, finding, unit, limits)),
        );
    }
    let loops = inputs.crash_loops.iter().flatten().filter(|(name, _)| !is_unit_name(inputs, name));
    checks.extend(loops.map(|(name, count)| {
        let unit = installed_unit(inputs.unit_of_source(name), &inputs.findings);
        crash_loop_check(CheckKind::Execution, name, unit, *count)
    }));
    or_healthy(checks, || {
        let message = "there is no source in the configuration";
        HealthCheck::new(CheckKind::Execution, "no_source", HealthLevel::Healthy, message)
    })
}

/// Returns true if `name` is the name of a unit, not of a source.
fn is_unit_name(inputs: &HealthInputs, name: &str) -> bool {
    name == inputs.unit || inputs.findings_by_unit().any(|(unit, _)| unit == name)
}

fn check_session_age(
    inputs: &HealthInputs,
    name: &str,
    limits: &HealthLimits,
    now: Timestamp,
) -> Option<HealthCheck> {
    let source = inputs.sources.iter().find(|source| source.name == name)?;
    let age = now.since(source.state.as_ref()?.session_started_at?).min(limits.clock_stable_for);
    let is_long = age > limits.max_session_age;
    is_long.then(|| {
        HealthCheck::new(
            CheckKind::Execution,
            SESSION_TOO_LONG,
            HealthLevel::Warning,
            "its session takes too long",
        )
        .with_subject(name)
        .with_measurement(
            format_duration(age),
            format!("more than {}", format_duration(limits.max_session_age)),
        )
        .with_advice(format!("see what delays it: `cynosure history {name}`"))
    })
}

fn to_check(
    kind: CheckKind,
    finding: &Finding,
    unit: Option<&str>,
    limits: &HealthLimits,
) -> HealthCheck {
    HealthCheck {
        kind,
        finding: finding.kind.name().to_owned(),
        subject: finding.subject.name().to_owned(),
        level: finding.level,
        message: finding.kind.to_string(),
        value: finding.value(),
        threshold: threshold_for(&finding.kind, limits),
        advice: finding.advice(unit),
    }
}

/// Returns the threshold of a finding's value; `None` if the value has no limit.
fn threshold_for(kind: &FindingKind, limits: &HealthLimits) -> Option<String> {
    let more_than = |limit| Some(format!("more than {}", format_duration(limit)));
    match kind {
        FindingKind::Overdue { .. } | FindingKind::ClockSkew { .. } => more_than(limits.grace),
        FindingKind::Stalled { .. } => more_than(limits.stuck_threshold),
        FindingKind::UnitStuckTransitioning { .. } => more_than(limits.max_transition),
        FindingKind::Failing { limit, .. } => Some(format!("{limit} or more")),
        FindingKind::CrashLoop(_) => Some(format!("more than {}", limits.thresholds.restarts)),
        FindingKind::Healthy { .. }
        | FindingKind::Waiting { .. }
        | FindingKind::NeverRun
        | FindingKind::Starting
        | FindingKind::StateUnreadable { .. }
        | FindingKind::Died { .. }
        | FindingKind::Stopped { .. }
        | FindingKind::CredentialRefused { .. }
        | FindingKind::AccountChanged { .. }
        | FindingKind::UnitRunning { .. }
        | FindingKind::UnitTransitioning
        | FindingKind::UnitNotInstalled
        | FindingKind::UnitNotLoaded { .. }
        | FindingKind::UnitFailed { .. }
        | FindingKind::UnitNotRunning
        | FindingKind::NoSystemd { .. }
        | FindingKind::UnitStateUnknown { .. } => None,
    }
}

fn crash_loop_check(kind: CheckKind, name: &str, unit: Option<&str>, restarts: u32) -> HealthCheck {
    let message = "crash loop: it restarts repeatedly";
    HealthCheck::new(kind, CRASH_LOOP, HealthLevel::Warning, message)
        .with_subject(name)
        .with_measurement(
            format!("{restarts} restarts in a row"),
            format!("more than {RESTARTS_MAX}"),
        )
        .with_advice(log_advice(unit))
}
