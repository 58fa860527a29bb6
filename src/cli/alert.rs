//! `alert`: sends a test alert through every channel, and lists the last alerts.

use serde_json::json;

use crate::cli::args::{AlertCommand, AlertListArgs, CommonArgs};
use crate::cli::error::CliError;
use crate::cli::exit::ProgramExit;
use crate::cli::logging;
use crate::cli::monitoring::alert_delivery;
use crate::cli::print::{print_result, terminal_safe_json};
use crate::cli::progress::{ProgressBars, ShowProgress};
use crate::cli::sources::load_context;
use crate::cli::table::table;
use crate::engine::alert::Alert;
use crate::engine::{Timestamp, format_duration, sanitize_line};
use crate::env::{Env, RealEnv};
use crate::human::{EMPTY_CELL, format_clock_time};
use crate::monitor::HealthFiles;
use crate::notify::journal;

pub(super) fn alert(common: &CommonArgs, command: &AlertCommand) -> Result<ProgramExit, CliError> {
    match command {
        AlertCommand::Test => send_test(common),
        AlertCommand::List(args) => list(common, args),
    }
}

fn send_test(common: &CommonArgs) -> Result<ProgramExit, CliError> {
    let context = load_context(common)?;
    logging::start(common, &context.environment, &ProgressBars::new(ShowProgress::No));
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

fn list(common: &CommonArgs, args: &AlertListArgs) -> Result<ProgramExit, CliError> {
    let context = load_context(common)?;
    let now = RealEnv.now();
    let alerts = HealthFiles::new(&context.state_dir).alerts.read()?;
    let alerts = alerts.transpose().map_err(|error| {
        CliError::new(
            ProgramExit::Other,
            format!("alerts.json cannot be read ({error}); the monitor creates a new one"),
        )
    })?;
    let alerts = alerts.unwrap_or_default();
    let hidden = alerts.all().len().saturating_sub(args.last);
    let alerts = &alerts.all()[hidden..];
    if args.json {
        for alert in alerts {
            print_result(terminal_safe_json(&json!(alert)))?;
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

/// Runs a future on a new runtime, for a command that has none.
///
/// # Errors
/// If the runtime cannot be created.
pub(super) fn block_on_new_runtime<T>(future: impl Future<Output = T>) -> Result<T, CliError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| {
        CliError::new(ProgramExit::Other, format!("cannot create the runtime: {error}"))
    })?;
    let output = runtime.block_on(future);
    // A command that prints a credential may still be running, and is not waited for.
    runtime.shutdown_background();
    Ok(output)
}
