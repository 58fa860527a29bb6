//! `check`: runs one health evaluation, as the monitor does.

use std::process::ExitCode;
use std::time::Duration;

use cynosure_engine::health::degradation::ProviderHealth;
use cynosure_engine::health::{Finding, HealthLevel};
use cynosure_engine::{Timestamp, format_duration, sanitize_line};
use serde::Serialize;

use crate::app::context::AppContext;
use crate::app::error::ProgramError;
use crate::app::exit::ProgramExit;
use crate::app::log;
use crate::app::monitoring::{
    alert_delivery, build_health_evaluator, build_monitor, restart_policy, restart_summary,
};
use crate::app::progress::{ProgressBars, ShowProgress};
use crate::app::runtime::block_on_new_runtime;
use crate::cli::args::{CheckArgs, CommonArgs};
use crate::cli::error::report_error;
use crate::cli::print::{print_best_effort, terminal_safe_json};
use crate::cli::table::table;
use crate::env::{Env, RealEnv};
use crate::human::{EMPTY_CELL, format_clock_time, pluralize};
use crate::monitor::{
    Collectors, CycleResult, HealthEvaluator, HealthSnapshot, MonitorRecord, RestartOutcome,
    RestartPolicy, RestartRecord, UnitEvaluation,
};

/// Maximum number of restarts shown; enough to recognise a crash loop.
const RESTARTS_SHOWN_MAX: usize = 5;

pub(super) fn check(common: &CommonArgs, args: &CheckArgs) -> ExitCode {
    match run_check(common, args) {
        Ok(level) => ExitCode::from(exit_code(level)),
        // Without an evaluation the health is unknown.
        Err(error) => {
            let _: ProgramExit = report_error(Err(error));
            ExitCode::from(exit_code(HealthLevel::Unknown))
        }
    }
}

fn exit_code(level: HealthLevel) -> u8 {
    match level {
        HealthLevel::Healthy => 0,
        HealthLevel::Warning => 1,
        HealthLevel::Critical => 2,
        HealthLevel::Skipped | HealthLevel::Unknown => 3,
    }
}

fn run_check(common: &CommonArgs, args: &CheckArgs) -> Result<HealthLevel, ProgramError> {
    let context = AppContext::load(&common.config_location())?;
    let now = RealEnv.now();
    let policy = if args.restart {
        restart_policy(&context.loaded.settings)
    } else {
        RestartPolicy::default()
    };
    let monitor = build_monitor(&context, policy)?;
    let CycleResult { states, units, record_failure } =
        if args.restart { monitor.run_cycle(now, || Duration::MAX) } else { monitor.evaluate(now) };
    if let Some(failure) = record_failure {
        return Err(failure.into());
    }
    let evaluator = build_health_evaluator(&context, Duration::MAX)?;
    let snapshot = evaluator.evaluate(
        &Collectors::default(),
        states,
        UnitEvaluation::all_findings(&units).cloned().collect(),
        now,
    );
    let delivery_results = if args.alert {
        send_alerts(common, &context, &evaluator, &snapshot, now)?
    } else {
        Vec::new()
    };
    let report = CheckReport {
        health: snapshot,
        restart_summary: restart_summary(&units, now),
        monitor_record: monitor.read_record()?,
        delivery_results,
        now,
    };
    if args.json {
        print_best_effort(terminal_safe_json(&report.as_json()));
    } else {
        print_best_effort(report.as_text());
    }
    Ok(report.health.report.level)
}

/// Sends notifications, and returns their number and the result of each channel, as text.
fn send_alerts(
    common: &CommonArgs,
    context: &AppContext,
    evaluator: &HealthEvaluator,
    snapshot: &HealthSnapshot,
    now: Timestamp,
) -> Result<Vec<String>, ProgramError> {
    log::start(common.log_options(), &context.environment, &ProgressBars::new(ShowProgress::No));
    let delivery = alert_delivery(context);
    let notifications = evaluator.notify(snapshot, &delivery, now)?;
    let mut results = vec![match notifications.len() {
        0 => "no new notifications".to_owned(),
        count => pluralize(count as u64, "new notification"),
    }];
    match block_on_new_runtime(delivery.deliver_once(now))?? {
        Some(attempts) => results.extend(attempts.iter().map(|attempt| match &attempt.outcome {
            Ok(()) => format!("{}: delivered", attempt.channel),
            Err(error) => {
                format!("{}: {error}; queued, will retry with the next check", attempt.channel)
            }
        })),
        None => results.push("the running monitor delivers the queued notifications".to_owned()),
    }
    Ok(results)
}

/// Result of `check`.
struct CheckReport {
    health: HealthSnapshot,
    /// Restart actions of the units, as text.
    restart_summary: Option<String>,
    monitor_record: MonitorRecord,
    delivery_results: Vec<String>,
    now: Timestamp,
}

/// Output of `check --json`.
#[derive(Serialize)]
struct CheckJson<'a> {
    /// Worst level of all checks.
    level: HealthLevel,
    #[serde(rename = "checks")]
    findings: &'a [Finding],
    providers: &'a [ProviderHealth],
    /// Restart actions of the units, as text.
    #[serde(rename = "restart")]
    restart_summary: Option<&'a str>,
    /// Number of notifications and the result of each channel, as text.
    #[serde(rename = "alerts")]
    delivery_results: &'a [String],
    monitor: MonitorJson<'a>,
}

/// Last cycle of the monitor.
#[derive(Serialize)]
struct MonitorJson<'a> {
    /// Null before the first.
    #[serde(rename = "looked_at")]
    checked_at: Option<Timestamp>,
    level: Option<&'a str>,
    /// Newest last.
    restarts: &'a [RestartRecord],
}

impl CheckReport {
    fn as_json(&self) -> CheckJson<'_> {
        CheckJson {
            level: self.health.report.level,
            findings: &self.health.report.findings,
            providers: &self.health.providers,
            restart_summary: self.restart_summary.as_deref(),
            delivery_results: &self.delivery_results,
            monitor: MonitorJson {
                checked_at: self.monitor_record.checked_at,
                level: self.monitor_record.level.as_deref(),
                restarts: &self.monitor_record.restarts,
            },
        }
    }

    fn as_text(&self) -> String {
        let now = self.now;
        let rows: Vec<Vec<String>> = self.health.report.findings.iter().map(finding_row).collect();
        let mut text = table(&["LEVEL", "CHECK", "SUBJECT", "FINDING"], &rows);
        if !self.health.providers.is_empty() {
            let rows: Vec<Vec<String>> = self.health.providers.iter().map(provider_row).collect();
            text.push('\n');
            text.push_str(&table(&["PROVIDER", "DEGRADATION", "SCORE", "P95", "STATUS"], &rows));
            text.push('\n');
        }
        text.extend(self.restart_summary.iter().map(|summary| format!("{summary}\n")));
        text.extend(self.delivery_results.iter().map(|result| format!("{result}\n")));
        let hidden = self.monitor_record.restarts.len().saturating_sub(RESTARTS_SHOWN_MAX);
        for restart in &self.monitor_record.restarts[hidden..] {
            text.push_str(&restart_line(restart, now));
        }
        if let Some(at) = self.monitor_record.checked_at {
            text.push_str(&format!(
                "the last check of the monitor was {} ago\n",
                format_duration(now.since(at))
            ));
        }
        text.trim_end().to_owned()
    }
}

fn finding_row(finding: &Finding) -> Vec<String> {
    let mut text = sanitize_line(&finding.message);
    match (&finding.value, &finding.threshold) {
        (Some(value), Some(threshold)) if finding.level > HealthLevel::Healthy => {
            text.push_str(&format!(" ({value}; threshold: {threshold})"));
        }
        (Some(value), _) => text.push_str(&format!(" ({value})")),
        (None, _) => {}
    }
    text.extend(finding.advice.as_ref().map(|advice| format!("; {advice}")));
    let subject = if finding.subject.is_empty() {
        EMPTY_CELL.to_owned()
    } else {
        sanitize_line(&finding.subject)
    };
    vec![finding.level.name().to_owned(), finding.check.name().to_owned(), subject, text]
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

fn restart_line(restart: &RestartRecord, now: Timestamp) -> String {
    let (at, reason) = (format_clock_time(restart.at, now), sanitize_line(&restart.reason));
    match restart.outcome {
        RestartOutcome::Accepted => format!("{at}: restarted, reason: {reason}\n"),
        RestartOutcome::Rejected => {
            format!("{at}: a restart was requested and rejected, reason of the request: {reason}\n")
        }
    }
}
