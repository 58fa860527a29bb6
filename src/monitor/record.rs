//! `monitor.json`: what the last round found, and what the rounds so far have done.

use std::collections::BTreeSet;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::disk::{Lasts, SharedFile, Standing};
use crate::engine::watch::{Finding, HealthLevel, installed_unit};
use crate::engine::{Failure, Timestamp, sanitize_line};
use crate::monitor::round::Judged;
use crate::state::words;

/// The file, in the state folder.
pub const MONITOR_FILE: &str = "monitor.json";

/// The version of the format that is read and written.
const SCHEMA: u32 = 1;

/// Restarts that are remembered: the last days of a bad week.
const RESTARTS_KEPT: usize = 100;

/// Counts of starts that are remembered of each unit: more than there are minutes in which they mean
/// anything.
const COUNTS_KEPT: usize = 30;

/// All of the file.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Record {
    pub schema: u32,
    /// When the monitor last looked; null before its first round.
    #[serde(with = "words::optional_moment")]
    pub looked_at: Option<Timestamp>,
    /// The worst of what it then found: `HEALTHY` and so on.
    pub level: Option<String>,
    pub findings: Vec<Entry>,
    /// The newest last.
    pub restarts: Vec<Restarted>,
    /// How often systemd had started the unit, as it was counted lately.
    pub counts: Vec<Count>,
}

/// A finding, as others read it.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Entry {
    pub level: String,
    /// The source or the unit that it is about.
    pub about: String,
    pub finding: String,
    pub message: String,
    pub figure: Option<String>,
    pub advice: Option<String>,
}

/// A restart that was asked for.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Restarted {
    #[serde(with = "words::moment")]
    pub at: Timestamp,
    pub unit: String,
    /// What it was to cure.
    pub why: String,
    pub outcome: Outcome,
    /// Why it was refused.
    pub error: Option<String>,
}

/// What systemd made of it.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    Accepted,
    Refused,
}

#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Count {
    #[serde(with = "words::moment")]
    pub at: Timestamp,
    pub unit: String,
    pub restarts: u32,
}

/// The file, and the way to change it in turn with others who check.
#[derive(Debug)]
pub struct RecordFile {
    shared: SharedFile,
}

impl Default for Record {
    fn default() -> Self {
        Self {
            schema: SCHEMA,
            looked_at: None,
            level: None,
            findings: Vec::new(),
            restarts: Vec::new(),
            counts: Vec::new(),
        }
    }
}

impl Record {
    /// Takes in what a round found.
    pub(super) fn note(&mut self, units: &[Judged], now: Timestamp) {
        self.looked_at = Some(now);
        self.level = Some(Judged::worst(units).name().to_owned());
        self.findings = units.iter().flat_map(Entry::all).collect();
    }

    pub(super) fn note_restart(&mut self, restarted: Restarted) {
        self.restarts.push(restarted);
        keep_last(&mut self.restarts, RESTARTS_KEPT);
    }

    pub(super) fn note_count(&mut self, count: Count) {
        // What was counted in a future that the clock has left says nothing.
        self.counts.retain(|earlier| earlier.at <= count.at);
        self.counts.push(count);
        let units: BTreeSet<&str> = self.counts.iter().map(|count| count.unit.as_str()).collect();
        let kept = COUNTS_KEPT * units.len();
        keep_last(&mut self.counts, kept);
    }

    /// The worst that was found, where this program knows the word.
    #[must_use]
    pub fn level(&self) -> Option<HealthLevel> {
        HealthLevel::from_name(self.level.as_deref()?)
    }
}

impl Entry {
    /// All findings about a unit and its sources.
    pub fn all(judged: &Judged) -> impl Iterator<Item = Self> {
        let unit = installed_unit(judged.unit.as_str(), &judged.findings);
        judged.findings.iter().map(move |finding| Self::of(finding, unit))
    }

    fn of(finding: &Finding, unit: Option<&str>) -> Self {
        Self {
            level: finding.level.name().to_owned(),
            about: finding.subject.name().to_owned(),
            finding: finding.kind.name().to_owned(),
            message: finding.kind.to_string(),
            figure: finding.value(),
            advice: finding.advice(unit),
        }
    }
}

impl RecordFile {
    /// The file in a state folder of this machine.
    #[must_use]
    pub fn new(state_dir: &Path) -> Self {
        Self { shared: SharedFile::new(state_dir.join(MONITOR_FILE)) }
    }

    /// Reads it and changes nothing. One that cannot be used reads as an empty one.
    ///
    /// # Errors
    /// A storage failure.
    pub fn look(&self) -> Result<Record, Failure> {
        Ok(self.shared.look(parse)?.and_then(Result::ok).unwrap_or_default())
    }

    /// Changes it. One that cannot be used is put aside, and a new one begun.
    ///
    /// # Errors
    /// A storage failure.
    pub(super) fn change(&self, change: impl FnOnce(&mut Record)) -> Result<(), Failure> {
        self.shared.change(Lasts::Process, parse, |standing| {
            let mut record = match standing {
                Standing::Content(record) => record,
                Standing::Nothing | Standing::PutAside { .. } => Record::default(),
            };
            change(&mut record);
            (Some(write(&record)), ())
        })
    }
}

fn parse(bytes: &[u8]) -> Result<Record, String> {
    let record: Record =
        serde_json::from_slice(bytes).map_err(|error| sanitize_line(&error.to_string()))?;
    if record.schema > SCHEMA {
        let schema = record.schema;
        return Err(format!("a newer cynosure wrote it: schema {schema}, this one knows {SCHEMA}"));
    }
    Ok(record)
}

fn write(record: &Record) -> Vec<u8> {
    // Nothing in it can fail to be written: its keys are texts, and it has no fractions.
    let mut json = serde_json::to_vec_pretty(record).unwrap_or_default();
    json.push(b'\n');
    json
}

fn keep_last<T>(list: &mut Vec<T>, kept: usize) {
    list.drain(..list.len().saturating_sub(kept));
}
