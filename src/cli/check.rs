//! `check`: the monitor's judgement, once.

use std::process::ExitCode;
use std::time::Duration;

use serde_json::{Value, json};

use crate::cli::alert::block_on_new_runtime;
use crate::cli::args::{CheckArgs, CommonArgs};
use crate::cli::context::AppContext;
use crate::cli::error::{CliError, report_error as told_trouble};
use crate::cli::exit::ProgramExit;
use crate::cli::logging;
use crate::cli::monitoring::{
    alert_delivery, build_monitor, health_evaluation, restart_policy, restart_summary,
};
use crate::cli::print::{print_best_effort, terminal_safe_json};
use crate::cli::progress::{ProgressBars, ShowProgress};
use crate::cli::sources::load_context;
use crate::cli::table::table;
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
const RESTARTS_SHOWN_MAX: usize = 5;

pub(super) fn check(common: &CommonArgs, args: &CheckArgs) -> ExitCode {
    match run_check(common, args) {
        Ok(level) => ExitCode::from(exit_code(level)),
        // What cannot be judged may be anything.
        Err(trouble) => {
            let _: ProgramExit = told_trouble(Err(trouble));
            ExitCode::from(exit_code(HealthLevel::Unknown))
        }
    }
}

fn exit_code(level: HealthLevel) -> u8 {
    match level {
        HealthLevel::Healthy => 0,
        HealthLevel::Warning => 1,
        HealthLevel::Critical => 2,
        HealthLevel::Unknown => 3,
    }
}

fn run_check(common: &CommonArgs, args: &CheckArgs) -> Result<HealthLevel, CliError> {
    let ground = load_context(common)?;
    let now = RealEnv.now();
    let powers = if args.restart {
        restart_policy(&ground.loaded.settings)
    } else {
        RestartPolicy::default()
    };
    let monitor = build_monitor(&ground, powers)?;
    let units = if args.restart {
        let round = monitor.run_cycle(now, || Duration::MAX);
        if let Some(failure) = round.record_failure {
            return Err(failure.into());
        }
        round.units
    } else {
        monitor.evaluate(now)
    };
    let restart = restart_summary(&units, now);
    let look = health_evaluation(&ground, Duration::MAX)?;
    let seen = look.evaluate(
        &Collectors::default(),
        UnitEvaluation::all_findings(&units).cloned().collect(),
        now,
    );
    let told =
        if args.alert { send_alerts(common, &ground, &look, &seen, now)? } else { Vec::new() };
    let checked = CheckReport {
        health: seen,
        restart_outcome: restart,
        monitor_record: monitor.read_record()?,
        delivery_results: told,
        now,
    };
    if args.json {
        print_best_effort(terminal_safe_json(&checked.as_json()));
    } else {
        print_best_effort(checked.as_text());
    }
    Ok(checked.health.report.level)
}

/// Tells people, and says of each channel what came of it.
fn send_alerts(
    common: &CommonArgs,
    ground: &AppContext,
    look: &HealthEvaluator,
    seen: &HealthSnapshot,
    now: Timestamp,
) -> Result<Vec<String>, CliError> {
    logging::start(common, &ground.environment, &ProgressBars::new(ShowProgress::No));
    let post = alert_delivery(ground);
    let notices = look.notify(seen, &post, now)?;
    let mut told = vec![match notices.len() {
        0 => "there is nothing new to tell".to_owned(),
        count => format!("{} told", pluralize(count as u64, "alert")),
    }];
    match block_on_new_runtime(post.deliver_once(now))?? {
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
struct CheckReport {
    health: HealthSnapshot,
    /// What was done about it.
    restart_outcome: Option<String>,
    monitor_record: MonitorRecord,
    delivery_results: Vec<String>,
    now: Timestamp,
}

impl CheckReport {
    fn as_json(&self) -> Value {
        json!({
            "level": self.health.report.level,
            "checks": self.health.report.checks,
            "providers": self.health.providers,
            "restart": self.restart_outcome,
            "alerts": self.delivery_results,
            "monitor": {
                "looked_at": self.monitor_record.checked_at.map(|at| at.to_string()),
                "level": self.monitor_record.level,
                "restarts": self.monitor_record.restarts,
            },
        })
    }

    fn as_text(&self) -> String {
        let now = self.now;
        let rows: Vec<Vec<String>> = self.health.report.checks.iter().map(check_row).collect();
        let mut text = table(&["LEVEL", "CHECK", "ABOUT", "FINDING"], &rows);
        if !self.health.providers.is_empty() {
            let rows: Vec<Vec<String>> = self.health.providers.iter().map(provider_row).collect();
            text.push('\n');
            text.push_str(&table(&["PROVIDER", "DEGRADED", "SCORE", "P95", "STATUS"], &rows));
            text.push('\n');
        }
        text.extend(self.restart_outcome.iter().map(|told| format!("{told}\n")));
        text.extend(self.delivery_results.iter().map(|told| format!("{told}\n")));
        let shown = self.monitor_record.restarts.len().saturating_sub(RESTARTS_SHOWN_MAX);
        for restarted in &self.monitor_record.restarts[shown..] {
            text.push_str(&restart_line(restarted, now));
        }
        if let Some(at) = self.monitor_record.checked_at {
            text.push_str(&format!(
                "the monitor last looked {} ago\n",
                format_duration(now.since(at))
            ));
        }
        text.trim_end().to_owned()
    }
}

fn check_row(check: &HealthCheck) -> Vec<String> {
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

fn provider_row(health: &ProviderHealth) -> Vec<String> {
    vec![
        sanitize_line(&health.provider),
        health.level.name().to_owned(),
        format!("{:.2}", health.score),
        health.p95_latency.map_or_else(|| EMPTY_CELL.to_owned(), format_duration),
        health.status.clone(),
    ]
}

fn restart_line(restarted: &RestartRecord, now: Timestamp) -> String {
    let (at, why) = (format_clock_time(restarted.at, now), sanitize_line(&restarted.reason));
    match restarted.outcome {
        RestartOutcome::Accepted => format!("{at}: restarted, since {why}\n"),
        RestartOutcome::Rejected => format!("{at}: a restart was refused, wanted since {why}\n"),
    }
}
