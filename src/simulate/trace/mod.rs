//! Traces: what a server really did, a line for each answer, and the made-up server that does the like.
//!
//! `docs/simulate.md` describes the file, and what a trace cannot tell.

mod json;
mod model;
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
use crate::simulate::FileError;

pub use self::model::Traced;

/// The longest pause between two answers, and so the latest time that is believed: beyond it the times are
/// in another unit than seconds.
const SPAN_MAX: Duration = Duration::from_secs(366 * 86_400);

/// The longest trace that is read, in bytes: a day at ten requests per second, with headers, is about as large.
pub const TRACE_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// The answers of one server to one client, in the order of time.
#[derive(Clone, Debug, PartialEq)]
pub struct Trace {
    answers: Vec<Answer>,
}

/// One answer, or its absence.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// When it came, from the first one.
    pub at: Duration,
    /// When it came by the wall clock, in milliseconds since 1970, if the trace says so.
    pub clock: Option<i64>,
    /// The HTTP status; 0 where there was no answer.
    pub status: u16,
    /// From the request to the first byte.
    pub took: Option<Duration>,
    /// Names are lower-case.
    pub headers: Vec<(String, String)>,
}

/// What an answer means to a client.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Served {
    /// It took the request, whatever came of it.
    Accepted,
    Throttled,
    /// Out of order, or not there.
    Failed,
}

/// A time as written: on the wall clock, or counted from anywhere.
#[derive(Clone, Copy, Debug, PartialEq)]
enum At {
    Clock(i64),
    Seconds(f64),
}

/// An answer as written.
struct Written {
    line: usize,
    at: At,
    status: u16,
    took: Option<Duration>,
    headers: Vec<(String, String)>,
}

impl Trace {
    /// Whether a file is a trace, by its name.
    #[must_use]
    pub fn is_named_so(file: &Path) -> bool {
        matches!(file.extension().and_then(OsStr::to_str), Some("jsonl" | "ndjson"))
    }

    /// Reads a trace, which is written as JSON lines.
    ///
    /// # Errors
    /// Every mistake, at once.
    pub fn parse(file: &Path, text: &str) -> Result<Self, FileError> {
        let lines = Lines { file: Arc::from(file) };
        let mut mistakes = Vec::new();
        let written = json::read(&lines, text, &mut mistakes);
        if mistakes.is_empty() && written.is_empty() {
            let what = "there is no answer in it; write a line for each".to_owned();
            mistakes.push(Diagnostic {
                location: Location::File(Arc::clone(&lines.file)),
                message: what,
            });
        }
        let answers = in_order(&lines, written, &mut mistakes);
        if mistakes.is_empty() {
            Ok(Self { answers })
        } else {
            Err(FileError::new("trace", mistakes))
        }
    }

    /// Writes an answer as [`parse`](Self::parse) reads it, as a JSON line with its line break.
    ///
    /// Names of headers are lower-case, each there once.
    #[must_use]
    pub fn line(
        at: Timestamp,
        status: u16,
        took: Option<Duration>,
        headers: Vec<(String, String)>,
    ) -> String {
        json::write(at, status, took, headers)
    }

    #[must_use]
    pub fn answers(&self) -> &[Answer] {
        &self.answers
    }
}

impl Answer {
    /// The value of a header, by its name in lower case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// Judges the answer by its status, and by Retry-After where the status has two meanings.
    #[must_use]
    pub fn served(&self) -> Served {
        match self.status {
            429 => Served::Throttled,
            403 | 503 if self.header("retry-after").is_some() => Served::Throttled,
            // From 600 on it is like 500 (RFC 9110 §15).
            0 | 408 | 425 | 500.. => Served::Failed,
            _ => Served::Accepted,
        }
    }
}

/// Makes places in a file.
struct Lines {
    file: Arc<Path>,
}

impl Lines {
    fn mistake(&self, line: usize, column: usize, what: String) -> Diagnostic {
        Diagnostic {
            location: Location::Line { file: Arc::clone(&self.file), line, column },
            message: what,
        }
    }
}

/// Counts every time from the earliest; answers may be written as they came in, which is almost in order.
fn in_order(lines: &Lines, written: Vec<Written>, mistakes: &mut Vec<Diagnostic>) -> Vec<Answer> {
    // The first line decides how times are written.
    let is_clocked = written.first().is_some_and(|first| first.at.clock().is_some());
    let (same, other): (Vec<Written>, Vec<Written>) =
        written.into_iter().partition(|one| one.at.clock().is_some() == is_clocked);
    for Written { line, .. } in other {
        let what = "`at` is a date in one line and a number in another; write one of them";
        mistakes.push(lines.mistake(line, 1, what.to_owned()));
    }
    let earliest = same.iter().map(|one| one.at).min_by(At::compare);
    let mut answers = Vec::with_capacity(same.len());
    for Written { line, at, status, took, headers } in same {
        let since = earliest.map_or(Duration::ZERO, |earliest| at.since(earliest));
        if since > SPAN_MAX {
            let what = "`at` is more than a year after the first answer; write seconds, or dates";
            mistakes.push(lines.mistake(line, 1, what.to_owned()));
        }
        answers.push(Answer { at: since, clock: at.clock(), status, took, headers });
    }
    answers.sort_by_key(|answer| answer.at);
    answers
}

impl At {
    /// Reads `2026-11-22T06:32:07.120Z`, or seconds from anywhere.
    fn parse(text: &str) -> Option<Self> {
        match text.parse() {
            Ok(seconds) => Self::of_seconds(seconds),
            Err(_) => {
                let date = DateTime::parse_from_rfc3339(text).ok()?;
                Some(Self::Clock(date.timestamp_millis()))
            }
        }
    }

    fn of_seconds(seconds: f64) -> Option<Self> {
        (seconds.is_finite() && seconds >= 0.0).then_some(Self::Seconds(seconds))
    }

    fn clock(self) -> Option<i64> {
        match self {
            Self::Clock(millis) => Some(millis),
            Self::Seconds(_) => None,
        }
    }

    /// Orders times of one kind.
    fn compare(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Clock(one), Self::Clock(other)) => one.cmp(other),
            (Self::Seconds(one), Self::Seconds(other)) => one.total_cmp(other),
            (Self::Clock(_), Self::Seconds(_)) | (Self::Seconds(_), Self::Clock(_)) => {
                Ordering::Equal
            }
        }
    }

    /// The time since an earlier one of the same kind.
    fn since(self, earlier: Self) -> Duration {
        match (self, earlier) {
            (Self::Clock(at), Self::Clock(earlier)) => Duration::from_millis(at.abs_diff(earlier)),
            (Self::Seconds(at), Self::Seconds(earlier)) => {
                Duration::try_from_secs_f64(at - earlier).unwrap_or(Duration::MAX)
            }
            (Self::Clock(_), Self::Seconds(_)) | (Self::Seconds(_), Self::Clock(_)) => {
                Duration::ZERO
            }
        }
    }
}

/// What each value must be.
const AT: &str = "`at` is missing or no time; write \"2026-11-22T06:32:07.120Z\" or seconds";
const STATUS: &str =
    "`status` is missing or no status; write one from 100 to 999, or 0 for no answer";
const MS: &str = "`ms` is no time; write the milliseconds to the first byte, or leave it out";

/// The longest time to an answer that is believed, in milliseconds.
const MS_MAX: f64 = 3_600_000.0;

fn status(number: u64) -> Option<u16> {
    let known = number == 0 || (100..1000).contains(&number);
    u16::try_from(number).ok().filter(|_| known)
}

fn took(millis: f64) -> Option<Duration> {
    let known = (0.0..=MS_MAX).contains(&millis);
    known.then(|| Duration::from_secs_f64(millis / 1000.0))
}
