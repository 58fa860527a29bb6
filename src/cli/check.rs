//! `check`: the monitor's judgement, once.

use std::process::ExitCode;
use std::time::Duration;

use serde_json::{Value, json};

use crate::cli::alert::in_runtime;
use crate::cli::args::{CheckArgs, Common};
use crate::cli::exit::Exit;
use crate::cli::logging;
use crate::cli::place::Ground;
use crate::cli::print::{escaped_json, out};
use crate::cli::progress::{Screen, Wanted};
use crate::cli::sources::ground;
use crate::cli::table::table;
use crate::cli::trouble::{Trouble, told as told_trouble};
use crate::cli::watching::{look, post, powers, told, watcher};
use crate::engine::degradation::ProviderHealth;
use crate::engine::health::HealthCheck;
use crate::engine::watch::HealthLevel;
use crate::engine::{Timestamp, sanitize_line};
use crate::human::{EMPTY_CELL, format_clock_time, format_duration, pluralize};
use crate::monitor::{
    Collectors, HealthEvaluator, HealthSnapshot, MonitorRecord, RestartOutcome, RestartPolicy,
    RestartRecord, UnitEvaluation,
};
use crate::worker::{Env, RealEnv};

/// Restarts that are shown: enough to see a loop.
const RESTARTS_SHOWN: usize = 5;

pub(super) fn check(common: &Common, args: &CheckArgs) -> ExitCode {
    match checked(common, args) {
        Ok(level) => ExitCode::from(number(level)),
        // What cannot be judged may be anything.
        Err(trouble) => {
            let _: Exit = told_trouble(Err(trouble));
            ExitCode::from(number(HealthLevel::Unknown))
        }
    }
}

fn number(level: HealthLevel) -> u8 {
    match level {
        HealthLevel::Healthy => 0,
        HealthLevel::Warning => 1,
        HealthLevel::Critical => 2,
        HealthLevel::Unknown => 3,
    }
}

fn checked(common: &Common, args: &CheckArgs) -> Result<HealthLevel, Trouble> {
    let ground = ground(common)?;
    let now = RealEnv.now();
    let powers =
        if args.restart { powers(&ground.loaded.settings) } else { RestartPolicy::default() };
    let monitor = watcher(&ground, powers)?;
    let units = if args.restart {
        let round = monitor.run_cycle(now, || Duration::MAX);
        if let Some(failure) = round.record_failure {
            return Err(failure.into());
        }
        round.units
    } else {
        monitor.evaluate(now)
    };
    let restart = told(&units, now);
    let look = look(&ground, Duration::MAX)?;
    let seen = look.evaluate(
        &Collectors::default(),
        UnitEvaluation::all_findings(&units).cloned().collect(),
        now,
    );
    let told = if args.alert { alerted(common, &ground, &look, &seen, now)? } else { Vec::new() };
    let checked = Checked { seen, restart, record: monitor.read_record()?, told, now };
    if args.json {
        out(escaped_json(&checked.as_json()));
    } else {
        out(checked.as_text());
    }
    Ok(checked.seen.report.level)
}

/// Tells people, and says of each channel what came of it.
fn alerted(
    common: &Common,
    ground: &Ground,
    look: &HealthEvaluator,
    seen: &HealthSnapshot,
    now: Timestamp,
) -> Result<Vec<String>, Trouble> {
    logging::start(common, &ground.environment, &Screen::new(Wanted::No));
    let post = post(ground);
    let notices = look.notify(seen, &post, now)?;
    let mut told = vec![match notices.len() {
        0 => "there is nothing new to tell".to_owned(),
        count => format!("{} told", pluralize(count as u64, "alert")),
    }];
    match in_runtime(post.deliver_once(now))?? {
        Some(tried) => told.extend(tried.iter().map(|tried| match &tried.outcome {
            Ok(()) => format!("{}: delivered", tried.channel),
            Err(why) => {
                format!("{}: {why}; it is kept, and tried again with the next look", tried.channel)
            }
        })),
        None => told.push("the monitor that is running delivers them".to_owned()),
    }
    Ok(told)
}

/// All there is to show.
struct Checked {
    seen: HealthSnapshot,
    /// What was done about it.
    restart: Option<String>,
    record: MonitorRecord,
    told: Vec<String>,
    now: Timestamp,
}

impl Checked {
    fn as_json(&self) -> Value {
        json!({
            "level": self.seen.report.level,
            "checks": self.seen.report.checks,
            "providers": self.seen.providers,
            "restart": self.restart,
            "alerts": self.told,
            "monitor": {
                "looked_at": self.record.checked_at.map(|at| at.to_string()),
                "level": self.record.level,
                "restarts": self.record.restarts,
            },
        })
    }

    fn as_text(&self) -> String {
        let now = self.now;
        let rows: Vec<Vec<String>> = self.seen.report.checks.iter().map(row).collect();
        let mut text = table(&["LEVEL", "CHECK", "ABOUT", "FINDING"], &rows);
        if !self.seen.providers.is_empty() {
            let rows: Vec<Vec<String>> = self.seen.providers.iter().map(provider).collect();
            text.push('\n');
            text.push_str(&table(&["PROVIDER", "DEGRADED", "SCORE", "P95", "STATUS"], &rows));
            text.push('\n');
        }
        text.extend(self.restart.iter().map(|told| format!("{told}\n")));
        text.extend(self.told.iter().map(|told| format!("{told}\n")));
        let shown = self.record.restarts.len().saturating_sub(RESTARTS_SHOWN);
        for restarted in &self.record.restarts[shown..] {
            text.push_str(&line(restarted, now));
        }
        if let Some(at) = self.record.checked_at {
            text.push_str(&format!(
                "the monitor last looked {} ago\n",
                format_duration(now.since(at))
            ));
        }
        text.trim_end().to_owned()
    }
}

fn row(check: &HealthCheck) -> Vec<String> {
    let mut sentence = sanitize_line(&check.message);
    match (&check.value, &check.threshold) {
        (Some(figure), Some(threshold)) if check.level > HealthLevel::Healthy => {
            sentence.push_str(&format!(" ({figure}; amiss: {threshold})"));
        }
        (Some(figure), _) => sentence.push_str(&format!(" ({figure})")),
        (None, _) => {}
    }
    sentence.extend(check.advice.as_ref().map(|advice| format!("; {advice}")));
    let about = if check.subject.is_empty() {
        EMPTY_CELL.to_owned()
    } else {
        sanitize_line(&check.subject)
    };
    vec![check.level.name().to_owned(), check.kind.name().to_owned(), about, sentence]
}

fn provider(health: &ProviderHealth) -> Vec<String> {
    vec![
        sanitize_line(&health.provider),
        health.level.name().to_owned(),
        format!("{:.2}", health.score),
        health.p95_latency.map_or_else(|| EMPTY_CELL.to_owned(), format_duration),
        health.status.clone(),
    ]
}

fn line(restarted: &RestartRecord, now: Timestamp) -> String {
    let (at, why) = (format_clock_time(restarted.at, now), sanitize_line(&restarted.reason));
    match restarted.outcome {
        RestartOutcome::Accepted => format!("{at}: restarted, since {why}\n"),
        RestartOutcome::Rejected => format!("{at}: a restart was refused, wanted since {why}\n"),
    }
}
