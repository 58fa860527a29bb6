//! `alert`: sends a test alert through every channel, and lists the last alerts.

use cynosure_engine::alert::Alert;
use cynosure_engine::{Timestamp, format_duration, sanitize_line};

use crate::app::context::AppContext;
use crate::app::error::ProgramError;
use crate::app::exit::ProgramExit;
use crate::app::log;
use crate::app::monitoring::alert_delivery;
use crate::app::progress::{ProgressBars, ShowProgress};
use crate::app::runtime::block_on_new_runtime;
use crate::cli::args::{AlertCommand, AlertListArgs, CommonArgs};
use crate::cli::print::{print_result, terminal_safe_json};
use crate::cli::table::table;
use crate::env::{Env, RealEnv};
use crate::human::{EMPTY_CELL, format_clock_time};
use crate::monitor::HealthFiles;
use crate::notify::journal;

pub(super) fn alert(
    common: &CommonArgs,
    command: &AlertCommand,
) -> Result<ProgramExit, ProgramError> {
    match command {
        AlertCommand::Test => send_test(common),
        AlertCommand::List(args) => list(common, args),
    }
}

fn send_test(common: &CommonArgs) -> Result<ProgramExit, ProgramError> {
    let context = AppContext::load(&common.config_location())?;
    log::start(common.log_options(), &context.environment, &ProgressBars::new(ShowProgress::No));
    journal::log_test();
    let delivery = alert_delivery(&context);
    let attempts = block_on_new_runtime(delivery.send_test(RealEnv.now()))?;
    let mut rows = vec![channel_row("journal", "ok", "a line was logged")];
    for attempt in &attempts {
        rows.push(match &attempt.outcome {
            Ok(()) => channel_row(&attempt.channel, "ok", "accepted; check that it arrives"),
            Err(error) => channel_row(&attempt.channel, "failed", &error.to_string()),
        });
    }
    print_result(table(&["CHANNEL", "RESULT", "DETAILS"], &rows).trim_end())?;
    if attempts.is_empty() {
        print_result("the log is the only channel; configure others in [alert]")?;
    }
    let all_accepted = attempts.iter().all(|attempt| attempt.outcome.is_ok());
    Ok(if all_accepted { ProgramExit::Success } else { ProgramExit::Other })
}

fn channel_row(channel: &str, result: &str, details: &str) -> Vec<String> {
    [channel, result, details].map(str::to_owned).to_vec()
}

fn list(common: &CommonArgs, args: &AlertListArgs) -> Result<ProgramExit, ProgramError> {
    let context = AppContext::load(&common.config_location())?;
    let now = RealEnv.now();
    let alerts = HealthFiles::new(&context.state_dir).alerts.read()?;
    let alerts = alerts.transpose().map_err(|error| {
        ProgramError::new(
            ProgramExit::Other,
            format!("alerts.json cannot be read ({error}); the monitor creates a new one"),
        )
    })?;
    let alerts = alerts.unwrap_or_default();
    let hidden = alerts.all().len().saturating_sub(args.last);
    let alerts = &alerts.all()[hidden..];
    if args.json {
        for alert in alerts {
            print_result(terminal_safe_json(alert))?;
        }
    } else if alerts.is_empty() {
        print_result("no alerts yet, or the monitor has never run")?;
    } else {
        let rows: Vec<Vec<String>> = alerts.iter().map(|alert| alert_row(alert, now)).collect();
        print_result(table(&["SINCE", "SEVERITY", "SUBJECT", "STATE", "ALERT"], &rows).trim_end())?;
    }
    Ok(ProgramExit::Success)
}

fn alert_row(alert: &Alert, now: Timestamp) -> Vec<String> {
    let state = match alert.resolved_at {
        None => "firing".to_owned(),
        Some(resolved_at) => {
            format!("resolved after {}", format_duration(resolved_at.since(alert.started_at)))
        }
    };
    let mut text = sanitize_line(&alert.message);
    if alert.max_severity > alert.severity {
        text.push_str(&format!("; it was {}", alert.max_severity.name()));
    }
    text.extend(alert.resolved_reason.as_ref().map(|reason| format!("; resolved: {reason}")));
    text.extend(
        alert.advice.as_ref().filter(|_| alert.is_firing()).map(|advice| format!("; {advice}")),
    );
    vec![
        format_clock_time(alert.started_at, now),
        alert.severity.name().to_owned(),
        if alert.subject.is_empty() {
            EMPTY_CELL.to_owned()
        } else {
            sanitize_line(&alert.subject)
        },
        state,
        text,
    ]
}
