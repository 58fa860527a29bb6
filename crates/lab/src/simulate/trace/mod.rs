//! Traces: recorded responses of a real server, one line each, and the simulated server that is
//! inferred from them.
//!
//! `docs/simulate.md` describes the format and the limits of a trace.

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
use cynosure_engine::Timestamp;
use cynosure_engine::user_input::{Diagnostic, Location};

use crate::simulate::ScenarioFileError;

pub use self::infer::InferredScenario;

/// Maximum time from the first response to any other. Larger values are in another unit than
/// seconds.
const TRACE_DURATION_MAX: Duration = Duration::from_secs(366 * 86_400);

/// Maximum size of a trace in bytes. A day at ten requests per second, with headers, is about as
/// large.
pub const TRACE_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// Responses of one server to one client, in chronological order.
#[derive(Clone, Debug, PartialEq)]
pub struct Trace {
    records: Vec<TraceRecord>,
}

/// One response, or a request without a response.
#[derive(Clone, Debug, PartialEq)]
pub struct TraceRecord {
    /// Time of the response, counted from the first one.
    pub at: Duration,
    /// Wall-clock time of the response in milliseconds since 1970, if the trace contains it.
    pub wall_clock_ms: Option<i64>,
    /// HTTP status. 0 if there was no response.
    pub status: u16,
    /// Time from the request to the first byte of the response.
    pub latency: Option<Duration>,
    /// Names are lower-case.
    pub headers: Vec<(String, String)>,
}

/// Class of a response, as the rate limiter sees it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ResponseClass {
    /// The server processed the request, even if the result is an error such as 404.
    Accepted,
    Throttled,
    /// Server error, or no response.
    Failed,
}

/// Time as written in a trace: milliseconds since 1970, or seconds from any start.
#[derive(Clone, Copy, Debug, PartialEq)]
enum TraceTime {
    WallClock(i64),
    Seconds(f64),
}

/// Record as written in a trace.
struct RawRecord {
    line: usize,
    at: TraceTime,
    status: u16,
    latency: Option<Duration>,
    headers: Vec<(String, String)>,
}

impl Trace {
    /// True if the extension of the file is that of a trace.
    #[must_use]
    pub fn has_trace_extension(file: &Path) -> bool {
        matches!(file.extension().and_then(OsStr::to_str), Some("jsonl" | "ndjson"))
    }

    /// Parses a trace in the JSON lines format.
    ///
    /// # Errors
    /// Returns all errors of the file at once.
    pub fn parse(file: &Path, text: &str) -> Result<Self, ScenarioFileError> {
        let trace_file = TraceFile { path: Arc::from(file) };
        let mut diagnostics = Vec::new();
        let raw_records = json::parse_records(&trace_file, text, &mut diagnostics);
        if diagnostics.is_empty() && raw_records.is_empty() {
            let message = "the trace is empty; write one line for each response".to_owned();
            let location = Location::File(Arc::clone(&trace_file.path));
            diagnostics.push(Diagnostic { location, message });
        }
        let records = sort_records(&trace_file, raw_records, &mut diagnostics);
        if diagnostics.is_empty() {
            Ok(Self { records })
        } else {
            Err(ScenarioFileError::new("trace", diagnostics))
        }
    }

    /// Formats a record as a JSON line, including the line break. [`parse`](Self::parse) reads it.
    ///
    /// Header names must be lower-case and unique.
    #[must_use]
    pub fn to_json_line(
        at: Timestamp,
        status: u16,
        latency: Option<Duration>,
        headers: Vec<(String, String)>,
    ) -> String {
        json::format_record(at, status, latency, headers)
    }

    #[must_use]
    pub fn records(&self) -> &[TraceRecord] {
        &self.records
    }
}

impl TraceRecord {
    /// Returns the value of a header by its lower-case name.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// Returns the class by the status, and by Retry-After for 403 and 503, which are ambiguous.
    #[must_use]
    pub fn class(&self) -> ResponseClass {
        match self.status {
            429 => ResponseClass::Throttled,
            403 | 503 if self.header("retry-after").is_some() => ResponseClass::Throttled,
            // A status of 600 or more counts as a server error (RFC 9110 §15).
            0 | 408 | 425 | 500.. => ResponseClass::Failed,
            _ => ResponseClass::Accepted,
        }
    }
}

/// Path of a trace, and the builder of diagnostics for its lines.
struct TraceFile {
    path: Arc<Path>,
}

impl TraceFile {
    fn diagnostic(&self, line: usize, column: usize, message: String) -> Diagnostic {
        Diagnostic {
            location: Location::Line { file: Arc::clone(&self.path), line, column },
            message,
        }
    }
}

/// Sorts the records by time and counts their times from the earliest. A trace may be written in
/// the order of arrival, which is almost chronological.
fn sort_records(
    trace_file: &TraceFile,
    raw_records: Vec<RawRecord>,
    diagnostics: &mut Vec<Diagnostic>,
) -> Vec<TraceRecord> {
    // The form of the first time is expected in all lines.
    let is_wall_clock = raw_records.first().is_some_and(|first| first.at.wall_clock_ms().is_some());
    let (same_form, other_form): (Vec<RawRecord>, Vec<RawRecord>) = raw_records
        .into_iter()
        .partition(|record| record.at.wall_clock_ms().is_some() == is_wall_clock);
    for RawRecord { line, .. } in other_form {
        let message = "`at` is a date in one line and a number in another; use one form";
        diagnostics.push(trace_file.diagnostic(line, 1, message.to_owned()));
    }
    let earliest = same_form.iter().map(|record| record.at).min_by(TraceTime::compare);
    let mut records = Vec::with_capacity(same_form.len());
    for RawRecord { line, at, status, latency, headers } in same_form {
        let elapsed = earliest.map_or(Duration::ZERO, |earliest| at.since(earliest));
        if elapsed > TRACE_DURATION_MAX {
            let message =
                "`at` is more than a year after the first response; write seconds, or dates";
            diagnostics.push(trace_file.diagnostic(line, 1, message.to_owned()));
        }
        records.push(TraceRecord {
            at: elapsed,
            wall_clock_ms: at.wall_clock_ms(),
            status,
            latency,
            headers,
        });
    }
    records.sort_by_key(|record| record.at);
    records
}

impl TraceTime {
    /// Parses a date such as `2026-11-22T06:32:07.120Z`, or seconds from any start.
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

    /// Compares two times of the same form. Times of different forms are equal.
    fn compare(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::WallClock(one), Self::WallClock(other)) => one.cmp(other),
            (Self::Seconds(one), Self::Seconds(other)) => one.total_cmp(other),
            (Self::WallClock(_), Self::Seconds(_)) | (Self::Seconds(_), Self::WallClock(_)) => {
                Ordering::Equal
            }
        }
    }

    /// Returns the time since an earlier one of the same form. Zero if the forms differ.
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

/// Error messages for invalid values of the keys.
const AT_ERROR: &str =
    "`at` is missing or not a time; write \"2026-11-22T06:32:07.120Z\" or seconds";
const STATUS_ERROR: &str =
    "`status` is missing or not an HTTP status; write 100 to 999, or 0 for no response";
const MS_ERROR: &str =
    "`ms` is not a duration; write the milliseconds to the first byte, or leave it out";

/// Maximum valid latency, in milliseconds.
const LATENCY_MS_MAX: f64 = 3_600_000.0;

fn parse_status(number: u64) -> Option<u16> {
    let is_valid = number == 0 || (100..1000).contains(&number);
    u16::try_from(number).ok().filter(|_| is_valid)
}

fn parse_latency(millis: f64) -> Option<Duration> {
    let is_valid = (0.0..=LATENCY_MS_MAX).contains(&millis);
    is_valid.then(|| Duration::from_secs_f64(millis / 1000.0))
}
