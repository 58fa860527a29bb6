//! Traces: what a server really did, a line for each answer, and the made-up server that does the like.
//!
//! `docs/simulate.md` describes the file, and what a trace cannot tell.

mod infer;
mod json;
#[cfg(test)]
mod tests;

use std::cmp::Ordering;
use std::ffi::OsStr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use chrono::DateTime;

use crate::config::{Diagnostic, Location};
use crate::engine::Timestamp;
use crate::simulate::ScenarioFileError;

pub use self::infer::InferredScenario;

/// The longest pause between two answers, and so the latest time that is believed: beyond it the times are
/// in another unit than seconds.
const TRACE_DURATION_MAX: Duration = Duration::from_secs(366 * 86_400);

/// The longest trace that is read, in bytes: a day at ten requests per second, with headers, is about as large.
pub const TRACE_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// The answers of one server to one client, in the order of time.
#[derive(Clone, Debug, PartialEq)]
pub struct Trace {
    records: Vec<TraceRecord>,
}

/// One answer, or its absence.
#[derive(Clone, Debug, PartialEq)]
pub struct TraceRecord {
    /// When it came, from the first one.
    pub at: Duration,
    /// When it came by the wall clock, in milliseconds since 1970, if the trace says so.
    pub wall_clock_ms: Option<i64>,
    /// The HTTP status; 0 where there was no answer.
    pub status: u16,
    /// From the request to the first byte.
    pub latency: Option<Duration>,
    /// Names are lower-case.
    pub headers: Vec<(String, String)>,
}

/// What an answer means to a client.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ResponseClass {
    /// It took the request, whatever came of it.
    Accepted,
    Throttled,
    /// Out of order, or not there.
    Failed,
}

/// A time as written: on the wall clock, or counted from anywhere.
#[derive(Clone, Copy, Debug, PartialEq)]
enum TraceTime {
    WallClock(i64),
    Seconds(f64),
}

/// An answer as written.
struct RawRecord {
    line: usize,
    at: TraceTime,
    status: u16,
    latency: Option<Duration>,
    headers: Vec<(String, String)>,
}

impl Trace {
    /// Whether a file is a trace, by its name.
    #[must_use]
    pub fn has_trace_extension(file: &Path) -> bool {
        matches!(file.extension().and_then(OsStr::to_str), Some("jsonl" | "ndjson"))
    }

    /// Reads a trace, which is written as JSON lines.
    ///
    /// # Errors
    /// Every mistake, at once.
    pub fn parse(file: &Path, text: &str) -> Result<Self, ScenarioFileError> {
        let lines = LineLocator { file: Arc::from(file) };
        let mut mistakes = Vec::new();
        let written = json::parse_records(&lines, text, &mut mistakes);
        if mistakes.is_empty() && written.is_empty() {
            let what = "there is no answer in it; write a line for each".to_owned();
            mistakes.push(Diagnostic {
                location: Location::File(Arc::clone(&lines.file)),
                message: what,
            });
        }
        let answers = sort_records(&lines, written, &mut mistakes);
        if mistakes.is_empty() {
            Ok(Self { records: answers })
        } else {
            Err(ScenarioFileError::new("trace", mistakes))
        }
    }

    /// Writes an answer as [`parse`](Self::parse) reads it, as a JSON line with its line break.
    ///
    /// Names of headers are lower-case, each there once.
    #[must_use]
    pub fn to_json_line(
        at: Timestamp,
        status: u16,
        took: Option<Duration>,
        headers: Vec<(String, String)>,
    ) -> String {
        json::format_record(at, status, took, headers)
    }

    #[must_use]
    pub fn records(&self) -> &[TraceRecord] {
        &self.records
    }
}

impl TraceRecord {
    /// The value of a header, by its name in lower case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// Judges the answer by its status, and by Retry-After where the status has two meanings.
    #[must_use]
    pub fn class(&self) -> ResponseClass {
        match self.status {
            429 => ResponseClass::Throttled,
            403 | 503 if self.header("retry-after").is_some() => ResponseClass::Throttled,
            // From 600 on it is like 500 (RFC 9110 §15).
            0 | 408 | 425 | 500.. => ResponseClass::Failed,
            _ => ResponseClass::Accepted,
        }
    }
}

/// Makes places in a file.
struct LineLocator {
    file: Arc<Path>,
}

impl LineLocator {
    fn diagnostic(&self, line: usize, column: usize, what: String) -> Diagnostic {
        Diagnostic {
            location: Location::Line { file: Arc::clone(&self.file), line, column },
            message: what,
        }
    }
}

/// Counts every time from the earliest; answers may be written as they came in, which is almost in order.
fn sort_records(
    lines: &LineLocator,
    written: Vec<RawRecord>,
    mistakes: &mut Vec<Diagnostic>,
) -> Vec<TraceRecord> {
    // The first line decides how times are written.
    let is_clocked = written.first().is_some_and(|first| first.at.wall_clock_ms().is_some());
    let (same, other): (Vec<RawRecord>, Vec<RawRecord>) =
        written.into_iter().partition(|one| one.at.wall_clock_ms().is_some() == is_clocked);
    for RawRecord { line, .. } in other {
        let what = "`at` is a date in one line and a number in another; write one of them";
        mistakes.push(lines.diagnostic(line, 1, what.to_owned()));
    }
    let earliest = same.iter().map(|one| one.at).min_by(TraceTime::compare);
    let mut answers = Vec::with_capacity(same.len());
    for RawRecord { line, at, status, latency: took, headers } in same {
        let since = earliest.map_or(Duration::ZERO, |earliest| at.since(earliest));
        if since > TRACE_DURATION_MAX {
            let what = "`at` is more than a year after the first answer; write seconds, or dates";
            mistakes.push(lines.diagnostic(line, 1, what.to_owned()));
        }
        answers.push(TraceRecord {
            at: since,
            wall_clock_ms: at.wall_clock_ms(),
            status,
            latency: took,
            headers,
        });
    }
    answers.sort_by_key(|answer| answer.at);
    answers
}

impl TraceTime {
    /// Reads `2026-11-22T06:32:07.120Z`, or seconds from anywhere.
    fn parse(text: &str) -> Option<Self> {
        match text.parse() {
            Ok(seconds) => Self::from_seconds(seconds),
            Err(_) => {
                let date = DateTime::parse_from_rfc3339(text).ok()?;
                Some(Self::WallClock(date.timestamp_millis()))
            }
        }
    }

    fn from_seconds(seconds: f64) -> Option<Self> {
        (seconds.is_finite() && seconds >= 0.0).then_some(Self::Seconds(seconds))
    }

    fn wall_clock_ms(self) -> Option<i64> {
        match self {
            Self::WallClock(millis) => Some(millis),
            Self::Seconds(_) => None,
        }
    }

    /// Orders times of one kind.
    fn compare(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::WallClock(one), Self::WallClock(other)) => one.cmp(other),
            (Self::Seconds(one), Self::Seconds(other)) => one.total_cmp(other),
            (Self::WallClock(_), Self::Seconds(_)) | (Self::Seconds(_), Self::WallClock(_)) => {
                Ordering::Equal
            }
        }
    }

    /// The time since an earlier one of the same kind.
    fn since(self, earlier: Self) -> Duration {
        match (self, earlier) {
            (Self::WallClock(at), Self::WallClock(earlier)) => {
                Duration::from_millis(at.abs_diff(earlier))
            }
            (Self::Seconds(at), Self::Seconds(earlier)) => {
                Duration::try_from_secs_f64(at - earlier).unwrap_or(Duration::MAX)
            }
            (Self::WallClock(_), Self::Seconds(_)) | (Self::Seconds(_), Self::WallClock(_)) => {
                Duration::ZERO
            }
        }
    }
}

/// What each value must be.
const AT_ERROR: &str = "`at` is missing or no time; write \"2026-11-22T06:32:07.120Z\" or seconds";
const STATUS_ERROR: &str =
    "`status` is missing or no status; write one from 100 to 999, or 0 for no answer";
const MS_ERROR: &str = "`ms` is no time; write the milliseconds to the first byte, or leave it out";

/// The longest time to an answer that is believed, in milliseconds.
const LATENCY_MS_MAX: f64 = 3_600_000.0;

fn parse_status(number: u64) -> Option<u16> {
    let known = number == 0 || (100..1000).contains(&number);
    u16::try_from(number).ok().filter(|_| known)
}

fn parse_latency(millis: f64) -> Option<Duration> {
    let known = (0.0..=LATENCY_MS_MAX).contains(&millis);
    known.then(|| Duration::from_secs_f64(millis / 1000.0))
}
