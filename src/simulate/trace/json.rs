//! Traces as JSON lines: an object for each answer.

use serde_json::{Map, Value};

use crate::config::{Mistake, nearest};
use crate::simulate::trace::{AT, At, Lines, MS, STATUS, Written, status, took};

const KEYS: [&str; 4] = ["at", "status", "ms", "headers"];

pub(super) fn read(lines: &Lines, text: &str, mistakes: &mut Vec<Mistake>) -> Vec<Written> {
    let numbered = (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty());
    numbered.filter_map(|(number, line)| object(lines, number, line, mistakes)).collect()
}

fn object(lines: &Lines, line: usize, text: &str, mistakes: &mut Vec<Mistake>) -> Option<Written> {
    let object: Map<String, Value> = match serde_json::from_str(text) {
        Ok(object) => object,
        Err(error) => {
            let what = "not a JSON object; write {\"at\": …, \"status\": …} on one line".to_owned();
            mistakes.push(lines.mistake(line, error.column().max(1), what));
            return None;
        }
    };
    let mut refuse = |what: String| mistakes.push(lines.mistake(line, 1, what));
    for key in object.keys().filter(|key| !KEYS.contains(&key.as_str())) {
        let remedy = match nearest(key, KEYS) {
            Some(meant) => format!("did you mean `{meant}`?"),
            None => format!("the keys are {}", KEYS.join(", ")),
        };
        refuse(format!("unknown key `{key}`; {remedy}"));
    }
    let at = match object.get("at") {
        Some(Value::String(text)) => At::parse(text),
        Some(Value::Number(number)) => number.as_f64().and_then(At::of_seconds),
        Some(Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_)) | None => None,
    };
    let status = object.get("status").and_then(Value::as_u64).and_then(status);
    let ms = object.get("ms").filter(|ms| !ms.is_null());
    let took = ms.map(|ms| ms.as_f64().and_then(took));
    let headers = headers(object.get("headers"));
    for (is_wrong, what) in [
        (at.is_none(), AT),
        (status.is_none(), STATUS),
        (took == Some(None), MS),
        (headers.is_none(), "`headers` is no object of texts; write {\"name\": \"value\"}"),
    ] {
        if is_wrong {
            refuse(what.to_owned());
        }
    }
    Some(Written { line, at: at?, status: status?, took: took.flatten(), headers: headers? })
}

fn headers(value: Option<&Value>) -> Option<Vec<(String, String)>> {
    let Some(value) = value.filter(|value| !value.is_null()) else { return Some(Vec::new()) };
    let pair = |(name, value): (&String, &Value)| {
        Some((name.to_ascii_lowercase(), value.as_str()?.to_owned()))
    };
    value.as_object()?.iter().map(pair).collect()
}
