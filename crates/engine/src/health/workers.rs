//! Checks of the units and of each source's work, from the findings of
//! [`crate::health::watch`].

use crate::health::finding::{CRASH_LOOP, NO_SYSTEMD, SESSION_TOO_LONG, UNIT_NOT_INSTALLED};
use crate::health::watch::log_advice;
use crate::health::{CheckKind, Finding, HealthInputs, HealthLevel, HealthLimits, or_healthy};
use crate::restart_budget::RESTARTS_MAX;
use crate::{Timestamp, format_duration};

/// Checks the units: active, running, and not in a crash loop.
pub(super) fn check_units(inputs: &HealthInputs) -> Vec<Finding> {
    let is_about_unit = |finding: &&Finding| finding.check == CheckKind::Service;
    let mut findings: Vec<Finding> =
        inputs.findings.iter().filter(is_about_unit).cloned().collect();
    match &inputs.crash_loops {
        Ok(loops) => {
            for (name, count) in loops.iter().filter(|(name, _)| is_unit_name(inputs, name)) {
                let is_reported =
                    |finding: &Finding| finding.kind == CRASH_LOOP && finding.subject == *name;
                if !findings.iter().any(is_reported) {
                    let unit = Some(name.as_str());
                    findings.push(crash_loop_finding(CheckKind::Service, name, unit, *count));
                }
            }
        }
        Err(reason) => findings.push(Finding::unknown(CheckKind::Service, reason)),
    }
    findings
}

/// Checks the work of each source; one finding per source, and one per crash loop.
pub(super) fn check_workers(
    inputs: &HealthInputs,
    limits: &HealthLimits,
    now: Timestamp,
) -> Vec<Finding> {
    let is_about_source = |finding: &&Finding| finding.check == CheckKind::Execution;
    let source_findings = inputs.findings.iter().filter(is_about_source).map(|finding| {
        let session_finding = check_session_age(inputs, &finding.subject, limits, now);
        session_finding
            .filter(|_| finding.level == HealthLevel::Healthy)
            .unwrap_or_else(|| finding.clone())
    });
    let mut findings: Vec<Finding> = source_findings.collect();
    let loops = inputs.crash_loops.iter().flatten().filter(|(name, _)| !is_unit_name(inputs, name));
    findings.extend(loops.map(|(name, count)| {
        let unit = installed_unit(inputs.unit_of_source(name), &inputs.findings);
        crash_loop_finding(CheckKind::Execution, name, unit, *count)
    }));
    or_healthy(findings, || {
        let message = "there is no source in the configuration";
        Finding::new(CheckKind::Execution, "no_source", HealthLevel::Healthy, message)
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
) -> Option<Finding> {
    let source = inputs.sources.iter().find(|source| source.name == name)?;
    let age = now.since(source.state.as_ref()?.session_started_at?).min(limits.clock_stable_for);
    let is_long = age > limits.max_session_age;
    is_long.then(|| {
        Finding::new(
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

/// Returns the unit if systemd has it. A worker started by other means has no journal.
fn installed_unit<'a>(unit: &'a str, findings: &[Finding]) -> Option<&'a str> {
    let is_missing = |finding: &Finding| {
        finding.check == CheckKind::Service
            && finding.subject == unit
            && [NO_SYSTEMD, UNIT_NOT_INSTALLED].contains(&finding.kind.as_str())
    };
    (!findings.iter().any(is_missing)).then_some(unit)
}

fn crash_loop_finding(check: CheckKind, name: &str, unit: Option<&str>, restarts: u32) -> Finding {
    let message = "crash loop: it restarts repeatedly";
    Finding::new(check, CRASH_LOOP, HealthLevel::Warning, message)
        .with_subject(name)
        .with_measurement(
            format!("{restarts} restarts in a row"),
            format!("more than {RESTARTS_MAX}"),
        )
        .with_advice(log_advice(unit))
}
