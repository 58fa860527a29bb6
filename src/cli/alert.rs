//! `alert`: tries the ways in which people are told, and shows what they were told.

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
use crate::engine::{Timestamp, sanitize_line};
use crate::human::{EMPTY_CELL, format_clock_time, format_duration};
use crate::monitor::HealthFiles;
use crate::notify::journal;
use crate::worker::{Env, RealEnv};

pub(super) fn alert(common: &CommonArgs, command: &AlertCommand) -> Result<ProgramExit, CliError> {
    match command {
        AlertCommand::Test => send_test(common),
        AlertCommand::List(args) => list(common, args),
    }
}

fn send_test(common: &CommonArgs) -> Result<ProgramExit, CliError> {
    let ground = load_context(common)?;
    logging::start(common, &ground.environment, &ProgressBars::new(ShowProgress::No));
    journal::log_test();
    let post = alert_delivery(&ground);
    let tried = block_on_new_runtime(post.send_test(RealEnv.now()))?;
    let mut rows = vec![alert_row("journal", "ok", "a line was logged")];
    for tried in &tried {
        rows.push(match &tried.outcome {
            Ok(()) => alert_row(&tried.channel, "ok", "it was taken: see whether it arrives"),
            Err(why) => alert_row(&tried.channel, "failed", &why.to_string()),
        });
    }
    print_result(table(&["CHANNEL", "RESULT", "WHY"], &rows).trim_end())?;
    if tried.is_empty() {
        print_result(
            "the log is the only channel; others are set up in [alert] of the configuration",
        )?;
    }
    let all_well = tried.iter().all(|tried| tried.outcome.is_ok());
    Ok(if all_well { ProgramExit::Success } else { ProgramExit::Other })
}

fn alert_row(channel: &str, result: &str, why: &str) -> Vec<String> {
    [channel, result, why].map(str::to_owned).to_vec()
}

fn list(common: &CommonArgs, args: &AlertListArgs) -> Result<ProgramExit, CliError> {
    let ground = load_context(common)?;
    let now = RealEnv.now();
    let found = HealthFiles::new(&ground.state_dir).alerts.read()?;
    let alerts = found.transpose().map_err(|why| {
        CliError::new(
            ProgramExit::Other,
            format!("alerts.json cannot be read ({why}); the monitor begins it anew"),
        )
    })?;
    let alerts = alerts.unwrap_or_default();
    let shown = alerts.all().len().saturating_sub(args.last);
    let alerts = &alerts.all()[shown..];
    if args.json {
        for alert in alerts {
            print_result(terminal_safe_json(&json!(alert)))?;
        }
    } else if alerts.is_empty() {
        print_result("there was no alert so far, or no monitor to raise one")?;
    } else {
        let rows: Vec<Vec<String>> =
            alerts.iter().map(|alert| notification_text(alert, now)).collect();
        print_result(table(&["SINCE", "SEVERITY", "ABOUT", "STATE", "ALERT"], &rows).trim_end())?;
    }
    Ok(ProgramExit::Success)
}

fn notification_text(alert: &Alert, now: Timestamp) -> Vec<String> {
    let state = match alert.resolved_at {
        None => "there".to_owned(),
        Some(ended) => format!("over after {}", format_duration(ended.since(alert.started_at))),
    };
    let mut sentence = sanitize_line(&alert.message);
    if alert.max_severity > alert.severity {
        sentence.push_str(&format!("; it was {}", alert.max_severity.name()));
    }
    sentence.extend(alert.resolved_reason.as_ref().map(|why| format!("; over, since {why}")));
    sentence.extend(
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
        sentence,
    ]
}

/// Runs what needs a runtime, where a command has none.
///
/// # Errors
/// When there is none to be had.
pub(super) fn block_on_new_runtime<T>(work: impl Future<Output = T>) -> Result<T, CliError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime
        .map_err(|error| CliError::new(ProgramExit::Other, format!("cannot start: {error}")))?;
    let done = runtime.block_on(work);
    // A program that prints a secret may still be running.
    runtime.shutdown_background();
    Ok(done)
}
