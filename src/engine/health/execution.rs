//! The unit and the work of each source, as the watch over them found it.

use crate::engine::health::sources::TOO_LONG;
use crate::engine::health::{Area, Check, Facts, Thresholds, or_well};
use crate::engine::watch::{Finding, Level, Subject};
use crate::engine::{Moment, span};

/// The unit: active, running, and not started again and again.
pub(super) fn service(facts: &Facts, thresholds: &Thresholds) -> Vec<Check> {
    let of_unit = |finding: &&Finding| matches!(finding.about, Subject::Unit(_));
    let mut checks: Vec<Check> = facts
        .findings
        .iter()
        .filter(of_unit)
        .map(|finding| check(Area::Service, finding, &facts.unit))
        .collect();
    let is_looping = |check: &Check| check.finding == "crash_loop";
    for check in checks.iter_mut().filter(|check| is_looping(check)) {
        check.threshold = Some(format!("more than {}", thresholds.restarts));
    }
    match &facts.loops {
        Ok(loops) => {
            let of_unit = |(name, _): &&(String, u32)| *name == facts.unit;
            let is_told = checks.iter().any(is_looping);
            let asked = loops.iter().find(of_unit).filter(|_| !is_told);
            checks.extend(asked.map(|(name, count)| crash_loop(facts, name, *count, thresholds)));
        }
        Err(why) => checks.push(Check::unknown(Area::Service, why)),
    }
    checks
}

/// The work of each source, one check for each.
pub(super) fn execution(facts: &Facts, thresholds: &Thresholds, now: Moment) -> Vec<Check> {
    let mut checks = Vec::new();
    for finding in &facts.findings {
        let Subject::Source(name) = &finding.about else { continue };
        let long = too_long(facts, name, thresholds, now);
        let long = long.filter(|_| finding.level == Level::Healthy);
        checks.push(long.unwrap_or_else(|| check(Area::Execution, finding, &facts.unit)));
    }
    let loops = facts.loops.iter().flatten().filter(|(name, _)| *name != facts.unit);
    checks.extend(loops.map(|(name, count)| Check {
        name: Area::Execution,
        ..crash_loop(facts, name, *count, thresholds)
    }));
    or_well(checks, || {
        let message = "there is no source in the configuration";
        Check::new(Area::Execution, "no_source", Level::Healthy, message)
    })
}

fn too_long(facts: &Facts, name: &str, thresholds: &Thresholds, now: Moment) -> Option<Check> {
    let source = facts.sources.iter().find(|source| source.name == name)?;
    let age = now.since(source.state.as_ref()?.session_since?);
    let is_long = age > thresholds.session;
    is_long.then(|| {
        Check::new(Area::Execution, TOO_LONG, Level::Warning, "its session takes very long")
            .about(name)
            .measured(span(age), format!("more than {}", span(thresholds.session)))
            .advise(format!("see what holds it up: `cynosure history {name}`"))
    })
}

fn check(area: Area, finding: &Finding, unit: &str) -> Check {
    Check {
        name: area,
        finding: finding.what.name().to_owned(),
        about: finding.about.name().to_owned(),
        level: finding.level,
        message: finding.what.to_string(),
        figure: finding.figure(),
        threshold: None,
        advice: finding.advice(unit),
    }
}

fn crash_loop(facts: &Facts, name: &str, restarts: u32, thresholds: &Thresholds) -> Check {
    let message = "it is started again and again: a crash loop";
    Check::new(Area::Service, "crash_loop", Level::Warning, message)
        .about(name)
        .measured(
            format!("{restarts} restarts in a row"),
            format!("more than {}", thresholds.restarts),
        )
        .advise(format!("see why with `journalctl -u {} -n 50`", facts.unit))
}
