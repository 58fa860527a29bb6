//! Traces as JSON lines: an object for each answer.

use std::time::Duration;

use serde::Serialize;
use serde_json::{Map, Value};

use crate::config::{Diagnostic, closest_match};
use crate::engine::Timestamp;
use crate::simulate::trace::{
    AT_ERROR, LATENCY_MS_MAX, LineLocator, MS_ERROR, RawRecord, STATUS_ERROR, TraceTime,
    parse_latency, parse_status,
};

const KEYS: [&str; 4] = ["at", "status", "ms", "headers"];

/// An answer with the [`KEYS`], in their order.
#[derive(Serialize)]
struct JsonRecord {
    at: Timestamp,
    status: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    ms: Option<f64>,
    #[serde(skip_serializing_if = "Map::is_empty")]
    headers: Map<String, Value>,
}

/// Writes a line that [`read`] reads, with the line break at its end.
pub(super) fn format_record(
    at: Timestamp,
    status: u16,
    took: Option<Duration>,
    headers: Vec<(String, String)>,
) -> String {
    let ms = took.map(|took| (took.as_secs_f64() * 10_000.0).round() / 10.0);
    let headers = headers.into_iter().map(|(name, text)| (name, Value::String(text))).collect();
    let line = JsonRecord { at, status, ms: ms.filter(|ms| *ms <= LATENCY_MS_MAX), headers };
    // Figures and texts can always be written.
    let mut text = serde_json::to_string(&line).unwrap_or_default();
    text.push('\n');
    text
}

pub(super) fn parse_records(
    lines: &LineLocator,
    text: &str,
    mistakes: &mut Vec<Diagnostic>,
) -> Vec<RawRecord> {
    let numbered =
        (1..).zip(without_partial_line(text).lines()).filter(|(_, line)| !line.trim().is_empty());
    numbered.filter_map(|(number, line)| parse_record(lines, number, line, mistakes)).collect()
}

/// All but a last line that breaks off, as after a power cut.
fn without_partial_line(text: &str) -> &str {
    let (before, last) = text.split_at(text.rfind('\n').map_or(0, |end| end + 1));
    let read = serde_json::from_str::<Map<String, Value>>(last);
    if read.is_err_and(|error| error.is_eof()) { before } else { text }
}

fn parse_record(
    lines: &LineLocator,
    line: usize,
    text: &str,
    mistakes: &mut Vec<Diagnostic>,
) -> Option<RawRecord> {
    let object: Map<String, Value> = match serde_json::from_str(text) {
        Ok(object) => object,
        Err(error) => {
            let what = "not a JSON object; write {\"at\": …, \"status\": …} on one line".to_owned();
            mistakes.push(lines.diagnostic(line, error.column().max(1), what));
            return None;
        }
    };
    let mut refuse = |what: String| mistakes.push(lines.diagnostic(line, 1, what));
    for key in object.keys().filter(|key| !KEYS.contains(&key.as_str())) {
        let remedy = match closest_match(key, KEYS) {
            Some(meant) => format!("did you mean `{meant}`?"),
            None => format!("the keys are {}", KEYS.join(", ")),
        };
        refuse(format!("unknown key `{key}`; {remedy}"));
    }
    let at = match object.get("at") {
        Some(Value::String(text)) => TraceTime::parse(text),
        Some(Value::Number(number)) => number.as_f64().and_then(TraceTime::from_seconds),
        Some(Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_)) | None => None,
    };
    let status = object.get("status").and_then(Value::as_u64).and_then(parse_status);
    let ms = object.get("ms").filter(|ms| !ms.is_null());
    let took = ms.map(|ms| ms.as_f64().and_then(parse_latency));
    let headers = parse_headers(object.get("headers"));
    for (is_wrong, what) in [
        (at.is_none(), AT_ERROR),
        (status.is_none(), STATUS_ERROR),
        (took == Some(None), MS_ERROR),
        (headers.is_none(), "`headers` is no object of texts; write {\"name\": \"value\"}"),
    ] {
        if is_wrong {
            refuse(what.to_owned());
        }
    }
    Some(RawRecord { line, at: at?, status: status?, latency: took.flatten(), headers: headers? })
}

fn parse_headers(value: Option<&Value>) -> Option<Vec<(String, String)>> {
    let Some(value) = value.filter(|value| !value.is_null()) else { return Some(Vec::new()) };
    let pair = |(name, value): (&String, &Value)| {
        Some((name.to_ascii_lowercase(), value.as_str()?.to_owned()))
    };
    value.as_object()?.iter().map(pair).collect()
}
