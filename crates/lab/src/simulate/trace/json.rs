//! JSON lines format of traces: one object per response.

use std::time::Duration;

use cynosure_engine::Timestamp;
use cynosure_engine::user_input::{Diagnostic, closest_match};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::simulate::trace::{
    AT_ERROR, LATENCY_MS_MAX, MS_ERROR, RawRecord, STATUS_ERROR, TraceFile, TraceTime,
    parse_latency, parse_status,
};

const KEYS: [&str; 4] = ["at", "status", "ms", "headers"];

/// Record of one response. Its fields are the [`KEYS`], in their order.
#[derive(Serialize)]
struct JsonRecord {
    at: Timestamp,
    status: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    ms: Option<f64>,
    #[serde(skip_serializing_if = "Map::is_empty")]
    headers: Map<String, Value>,
}

/// Formats a record as a line that [`parse_records`] reads, including the line break.
pub(super) fn format_record(
    at: Timestamp,
    status: u16,
    latency: Option<Duration>,
    headers: Vec<(String, String)>,
) -> String {
    let ms = latency.map(|latency| (latency.as_secs_f64() * 10_000.0).round() / 10.0);
    let headers = headers.into_iter().map(|(name, value)| (name, Value::String(value))).collect();
    let record = JsonRecord { at, status, ms: ms.filter(|ms| *ms <= LATENCY_MS_MAX), headers };
    // Serialising numbers and strings cannot fail.
    let mut line = serde_json::to_string(&record).unwrap_or_default();
    line.push('\n');
    line
}

pub(super) fn parse_records(
    trace_file: &TraceFile,
    text: &str,
    diagnostics: &mut Vec<Diagnostic>,
) -> Vec<RawRecord> {
    let numbered_lines =
        (1..).zip(without_partial_line(text).lines()).filter(|(_, line)| !line.trim().is_empty());
    numbered_lines
        .filter_map(|(number, line)| parse_record(trace_file, number, line, diagnostics))
        .collect()
}

/// Returns the text without a last line that is incomplete, as after a power cut.
fn without_partial_line(text: &str) -> &str {
    let (before, last) = text.split_at(text.rfind('\n').map_or(0, |end| end + 1));
    let object = serde_json::from_str::<Map<String, Value>>(last);
    if object.is_err_and(|error| error.is_eof()) { before } else { text }
}

fn parse_record(
    trace_file: &TraceFile,
    line: usize,
    text: &str,
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<RawRecord> {
    let object: Map<String, Value> = match serde_json::from_str(text) {
        Ok(object) => object,
        Err(error) => {
            let message =
                "not a JSON object; write {\"at\": …, \"status\": …} on one line".to_owned();
            diagnostics.push(trace_file.diagnostic(line, error.column().max(1), message));
            return None;
        }
    };
    let mut report = |message: String| diagnostics.push(trace_file.diagnostic(line, 1, message));
    for key in object.keys().filter(|key| !KEYS.contains(&key.as_str())) {
        let remedy = match closest_match(key, KEYS) {
            Some(suggestion) => format!("did you mean `{suggestion}`?"),
            None => format!("the keys are {}", KEYS.join(", ")),
        };
        report(format!("unknown key `{key}`; {remedy}"));
    }
    let at = match object.get("at") {
        Some(Value::String(text)) => TraceTime::parse(text),
        Some(Value::Number(number)) => number.as_f64().and_then(TraceTime::from_seconds),
        Some(Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_)) | None => None,
    };
    let status = object.get("status").and_then(Value::as_u64).and_then(parse_status);
    let ms = object.get("ms").filter(|ms| !ms.is_null());
    let latency = ms.map(|ms| ms.as_f64().and_then(parse_latency));
    let headers = parse_headers(object.get("headers"));
    for (is_wrong, message) in [
        (at.is_none(), AT_ERROR),
        (status.is_none(), STATUS_ERROR),
        (latency == Some(None), MS_ERROR),
        (headers.is_none(), "`headers` is not an object of strings; write {\"name\": \"value\"}"),
    ] {
        if is_wrong {
            report(message.to_owned());
        }
    }
    Some(RawRecord {
        line,
        at: at?,
        status: status?,
        latency: latency.flatten(),
        headers: headers?,
    })
}

fn parse_headers(value: Option<&Value>) -> Option<Vec<(String, String)>> {
    let Some(value) = value.filter(|value| !value.is_null()) else { return Some(Vec::new()) };
    let pair = |(name, value): (&String, &Value)| {
        Some((name.to_ascii_lowercase(), value.as_str()?.to_owned()))
    };
    value.as_object()?.iter().map(pair).collect()
}
