//! `check`: the monitor's judgement, once.

use std::process::ExitCode;

use serde_json::{Value, json};

use crate::cli::args::{CheckArgs, Common};
use crate::cli::exit::Exit;
use crate::cli::print::{escaped_json, show};
use crate::cli::sources::ground;
use crate::cli::table::table;
use crate::cli::trouble::{Trouble, told as told_trouble};
use crate::cli::watching::{powers, told, watcher};
use crate::cli::words::{clock, span};
use crate::engine::watch::Level;
use crate::engine::{Moment, printable};
use crate::monitor::{Entry, Judged, Outcome, Powers, Record, Restarted};
use crate::worker::{RealWorld, World};

/// Restarts that are shown: enough to see a loop.
const RESTARTS_SHOWN: usize = 5;

pub(super) fn check(common: &Common, args: &CheckArgs) -> ExitCode {
    match checked(common, args) {
        Ok(level) => ExitCode::from(number(level)),
        // What cannot be judged may be anything.
        Err(trouble) => {
            let _: Exit = told_trouble(Err(trouble));
            ExitCode::from(number(Level::Unknown))
        }
    }
}

fn number(level: Level) -> u8 {
    match level {
        Level::Healthy => 0,
        Level::Warning => 1,
        Level::Critical => 2,
        Level::Unknown => 3,
    }
}

fn checked(common: &Common, args: &CheckArgs) -> Result<Level, Trouble> {
    let ground = ground(common)?;
    let now = RealWorld.now();
    let powers = if args.restart { powers(&ground.loaded.settings) } else { Powers::default() };
    let monitor = watcher(&ground, powers)?;
    let units = if args.restart {
        let round = monitor.round(now);
        if let Some(failure) = round.unrecorded {
            return Err(failure.into());
        }
        round.units
    } else {
        monitor.judge(now)
    };
    let record = monitor.recorded()?;
    if args.json {
        show(escaped_json(&as_json(&units, &record, now)))?;
    } else {
        show(as_text(&units, &record, now))?;
    }
    Ok(Judged::worst(&units))
}

fn as_json(units: &[Judged], record: &Record, now: Moment) -> Value {
    let entries: Vec<Entry> = units.iter().flat_map(Entry::all).collect();
    json!({
        "level": Judged::worst(units).name(),
        "findings": entries,
        "restart": told(units, now),
        "monitor": {
            "looked_at": record.looked_at.map(|at| at.to_string()),
            "level": record.level,
            "restarts": record.restarts,
        },
    })
}

fn as_text(units: &[Judged], record: &Record, now: Moment) -> String {
    let rows: Vec<Vec<String>> = units.iter().flat_map(Entry::all).map(row).collect();
    let mut text = table(&["LEVEL", "ABOUT", "FINDING"], &rows);
    text.extend(told(units, now).map(|told| format!("{told}\n")));
    let shown = record.restarts.len().saturating_sub(RESTARTS_SHOWN);
    for restarted in &record.restarts[shown..] {
        text.push_str(&line(restarted, now));
    }
    if let Some(at) = record.looked_at {
        text.push_str(&format!("the monitor last looked {} ago\n", span(now.since(at))));
    }
    text.trim_end().to_owned()
}

fn row(entry: Entry) -> Vec<String> {
    let mut sentence = entry.message;
    sentence.extend(entry.figure.map(|figure| format!(" ({figure})")));
    sentence.extend(entry.advice.map(|advice| format!("; {advice}")));
    vec![entry.level, entry.about, sentence]
}

fn line(restarted: &Restarted, now: Moment) -> String {
    let (at, why) = (clock(restarted.at, now), printable(&restarted.why));
    match restarted.outcome {
        Outcome::Accepted => format!("{at}: restarted, since {why}\n"),
        Outcome::Refused => format!("{at}: a restart was refused, wanted since {why}\n"),
    }
}
