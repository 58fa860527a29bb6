//! `alert`: tries the ways in which people are told, and shows what they were told.

use serde_json::json;

use crate::cli::args::{AlertCommand, AlertListArgs, Common};
use crate::cli::exit::Exit;
use crate::cli::logging;
use crate::cli::print::{escaped_json, show};
use crate::cli::progress::{Screen, Wanted};
use crate::cli::sources::ground;
use crate::cli::table::table;
use crate::cli::trouble::Trouble;
use crate::cli::watching::post;
use crate::engine::alert::Alert;
use crate::engine::{Timestamp, sanitize_line};
use crate::human::{EMPTY_CELL, format_clock_time, format_duration};
use crate::monitor::HealthFiles;
use crate::notify::journal;
use crate::worker::{Env, RealEnv};

pub(super) fn alert(common: &Common, command: &AlertCommand) -> Result<Exit, Trouble> {
    match command {
        AlertCommand::Test => test(common),
        AlertCommand::List(args) => list(common, args),
    }
}

fn test(common: &Common) -> Result<Exit, Trouble> {
    let ground = ground(common)?;
    logging::start(common, &ground.environment, &Screen::new(Wanted::No));
    journal::log_test();
    let post = post(&ground);
    let tried = in_runtime(post.send_test(RealEnv.now()))?;
    let mut rows = vec![row("journal", "ok", "a line was logged")];
    for tried in &tried {
        rows.push(match &tried.outcome {
            Ok(()) => row(&tried.channel, "ok", "it was taken: see whether it arrives"),
            Err(why) => row(&tried.channel, "failed", &why.to_string()),
        });
    }
    show(table(&["CHANNEL", "RESULT", "WHY"], &rows).trim_end())?;
    if tried.is_empty() {
        show("the log is the only channel; others are set up in [alert] of the configuration")?;
    }
    let all_well = tried.iter().all(|tried| tried.outcome.is_ok());
    Ok(if all_well { Exit::Done } else { Exit::Other })
}

fn row(channel: &str, result: &str, why: &str) -> Vec<String> {
    [channel, result, why].map(str::to_owned).to_vec()
}

fn list(common: &Common, args: &AlertListArgs) -> Result<Exit, Trouble> {
    let ground = ground(common)?;
    let now = RealEnv.now();
    let found = HealthFiles::new(&ground.state_dir).alerts.read()?;
    let alerts = found.transpose().map_err(|why| {
        Trouble::new(
            Exit::Other,
            format!("alerts.json cannot be read ({why}); the monitor begins it anew"),
        )
    })?;
    let alerts = alerts.unwrap_or_default();
    let shown = alerts.all().len().saturating_sub(args.last);
    let alerts = &alerts.all()[shown..];
    if args.json {
        for alert in alerts {
            show(escaped_json(&json!(alert)))?;
        }
    } else if alerts.is_empty() {
        show("there was no alert so far, or no monitor to raise one")?;
    } else {
        let rows: Vec<Vec<String>> = alerts.iter().map(|alert| told(alert, now)).collect();
        show(table(&["SINCE", "SEVERITY", "ABOUT", "STATE", "ALERT"], &rows).trim_end())?;
    }
    Ok(Exit::Done)
}

fn told(alert: &Alert, now: Timestamp) -> Vec<String> {
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
pub(super) fn in_runtime<T>(work: impl Future<Output = T>) -> Result<T, Trouble> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime =
        runtime.map_err(|error| Trouble::new(Exit::Other, format!("cannot start: {error}")))?;
    let done = runtime.block_on(work);
    // A program that prints a secret may still be running.
    runtime.shutdown_background();
    Ok(done)
}
