//! The units and the work of each source, as the watch over them found it.

use crate::engine::health::sources::TOO_LONG;
use crate::engine::health::{Area, Bounds, Check, Facts, or_well};
use crate::engine::watch::{Finding, Level, Subject, What, installed, see_why};
use crate::engine::{Timestamp, format_duration};

/// What is found of whatever is started again and again.
pub(super) const CRASH_LOOP: &str = "crash_loop";

/// The units: active, running, and not started again and again.
pub(super) fn service(facts: &Facts, bounds: &Bounds) -> Vec<Check> {
    let of_unit = |(_, finding): &(&str, &Finding)| matches!(finding.about, Subject::Unit(_));
    let of_units = facts.by_unit().filter(of_unit);
    let mut checks: Vec<Check> =
        of_units.map(|(unit, finding)| check(Area::Service, finding, Some(unit), bounds)).collect();
    match &facts.loops {
        Ok(loops) => {
            for (name, count) in loops.iter().filter(|(name, _)| is_unit(facts, name)) {
                let is_told = |check: &Check| check.finding == CRASH_LOOP && check.about == *name;
                if !checks.iter().any(is_told) {
                    checks.push(crash_loop(Area::Service, name, Some(name), *count, bounds));
                }
            }
        }
        Err(why) => checks.push(Check::unknown(Area::Service, why)),
    }
    checks
}

/// The work of each source, one check for each.
pub(super) fn execution(facts: &Facts, bounds: &Bounds, now: Timestamp) -> Vec<Check> {
    let mut checks = Vec::new();
    for (unit, finding) in facts.by_unit() {
        let Subject::Source(name) = &finding.about else { continue };
        let long = too_long(facts, name, bounds, now);
        let long = long.filter(|_| finding.level == Level::Healthy);
        let unit = installed(unit, &facts.findings);
        checks.push(long.unwrap_or_else(|| check(Area::Execution, finding, unit, bounds)));
    }
    let loops = facts.loops.iter().flatten().filter(|(name, _)| !is_unit(facts, name));
    checks.extend(loops.map(|(name, count)| {
        let unit = installed(facts.unit_of(name), &facts.findings);
        crash_loop(Area::Execution, name, unit, *count, bounds)
    }));
    or_well(checks, || {
        let message = "there is no source in the configuration";
        Check::new(Area::Execution, "no_source", Level::Healthy, message)
    })
}

/// Whether restarts are counted under the name of a unit, not of a source.
fn is_unit(facts: &Facts, name: &str) -> bool {
    name == facts.unit || facts.by_unit().any(|(unit, _)| unit == name)
}

fn too_long(facts: &Facts, name: &str, bounds: &Bounds, now: Timestamp) -> Option<Check> {
    let source = facts.sources.iter().find(|source| source.name == name)?;
    let age = now.since(source.state.as_ref()?.session_since?).min(bounds.clock_kept);
    let is_long = age > bounds.session;
    is_long.then(|| {
        Check::new(Area::Execution, TOO_LONG, Level::Warning, "its session takes very long")
            .about(name)
            .measured(
                format_duration(age),
                format!("more than {}", format_duration(bounds.session)),
            )
            .advise(format!("see what holds it up: `cynosure history {name}`"))
    })
}

fn check(area: Area, finding: &Finding, unit: Option<&str>, bounds: &Bounds) -> Check {
    Check {
        name: area,
        finding: finding.what.name().to_owned(),
        about: finding.about.name().to_owned(),
        level: finding.level,
        message: finding.what.to_string(),
        figure: finding.figure(),
        threshold: threshold(&finding.what, bounds),
        advice: finding.advice(unit),
    }
}

/// From where on the figure of a finding is too much, where it has a limit.
fn threshold(what: &What, bounds: &Bounds) -> Option<String> {
    let more_than = |limit| Some(format!("more than {}", format_duration(limit)));
    match what {
        What::Overdue { .. } | What::FromTheFuture { .. } => more_than(bounds.grace),
        What::Stalled { .. } => more_than(bounds.stuck),
        What::Turning { .. } => more_than(bounds.turn),
        What::Failing { limit, .. } => Some(format!("{limit} or more")),
        What::CrashLoop(_) => Some(format!("more than {}", bounds.thresholds.restarts)),
        What::InOrder { .. }
        | What::Waiting { .. }
        | What::NeverRun
        | What::Starting
        | What::Untold { .. }
        | What::Died { .. }
        | What::Stopped { .. }
        | What::CredentialRefused { .. }
        | What::AccountChanged { .. }
        | What::UnitRuns { .. }
        | What::UnitTurns
        | What::NotInstalled
        | What::CannotLoad { .. }
        | What::UnitFailed { .. }
        | What::NotRunning
        | What::NoSystemd { .. }
        | What::UnitUntold { .. } => None,
    }
}

fn crash_loop(area: Area, name: &str, unit: Option<&str>, restarts: u32, bounds: &Bounds) -> Check {
    let message = "it is started again and again: a crash loop";
    Check::new(area, CRASH_LOOP, Level::Warning, message)
        .about(name)
        .measured(
            format!("{restarts} restarts in a row"),
            format!("more than {}", bounds.thresholds.restarts),
        )
        .advise(see_why(unit))
}
