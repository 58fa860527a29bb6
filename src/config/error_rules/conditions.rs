//! Readers of the keys of a rule: its conditions, class, scope and wait.
//!
//! Each function reads the value of one key. An error states the problem and the remedy.

use std::time::Duration;

use cynosure_engine::user_input::{closest_match, duration_literal, parse_duration};
use cynosure_engine::{
    BodyCondition, Cause, HeaderCondition, HeaderTest, RULE_CAUSES, RuleScope, Scalar, StatusRange,
};

use super::super::file::{Node, Table, Value, describe, plain_text};
use super::super::ranges::MAX_DURATION;
use super::super::show::quote;

/// Status codes with three digits (RFC 9110 §15). Some servers send codes above 599.
const STATUS_RANGE: std::ops::RangeInclusive<u16> = 100..=999;

const HEADER_KEYS: [&str; 4] = ["name", "equals", "contains", "exists"];
const BODY_KEYS: [&str; 3] = ["contains", "pointer", "value"];

const STATUS_HELP: &str = "write 403, \"4xx\" or [403, 503]";
const HEADER_HELP: &str = "write { name = \"x-error\", contains = \"quota\" }, \
                           with `equals` for the whole value, or exists = true for any";
const BODY_HELP: &str =
    "write \"a text in the body\" or { pointer = \"/error/code\", value = \"quotaExceeded\" }";

pub(in crate::config) fn read_statuses(node: &Node) -> Result<Vec<StatusRange>, String> {
    match &node.value {
        Value::List(items) if items.is_empty() => {
            Err(format!("is an empty list; {STATUS_HELP}, or leave it out for any"))
        }
        Value::List(items) => items.iter().map(read_status).collect(),
        Value::Text(_)
        | Value::Integer(_)
        | Value::Float(_)
        | Value::Flag(_)
        | Value::Date(_)
        | Value::Table(_) => Ok(vec![read_status(node)?]),
    }
}

fn read_status(node: &Node) -> Result<StatusRange, String> {
    let [least, most] = [STATUS_RANGE.start(), STATUS_RANGE.end()];
    if let Some(number) = node.value.integer() {
        let status = u16::try_from(number).ok().filter(|status| STATUS_RANGE.contains(status));
        let status =
            status.ok_or_else(|| format!("is {number}; a status is from {least} to {most}"))?;
        return Ok(StatusRange { first: status, last: status });
    }
    let class = node.value.text().and_then(|text| text.strip_suffix("xx"));
    match class.and_then(|digit| digit.parse::<u16>().ok()).filter(|digit| (1..=9).contains(digit))
    {
        Some(digit) => Ok(StatusRange { first: digit * 100, last: digit * 100 + 99 }),
        None => Err(format!("is {}; {STATUS_HELP}", describe(&node.value))),
    }
}

pub(super) fn read_header(node: &Node) -> Result<HeaderCondition, String> {
    let Value::Table(table) = &node.value else {
        return Err(format!("is {}; {HEADER_HELP}", describe(&node.value)));
    };
    reject_unknown_keys(table, &HEADER_KEYS)?;
    let name = required_text(table, "name", HEADER_HELP)?.to_ascii_lowercase();
    // A token, RFC 9110 §5.6.2.
    let is_token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
    if !name.chars().all(is_token) {
        return Err(format!(
            "names {}, which is not a valid header name; {HEADER_HELP}",
            quote(&name)
        ));
    }
    let mut tests = Vec::new();
    if table.contains_key("equals") {
        tests.push(HeaderTest::Equals(required_text(table, "equals", HEADER_HELP)?.to_owned()));
    }
    if table.contains_key("contains") {
        tests.push(HeaderTest::Contains(required_text(table, "contains", HEADER_HELP)?.to_owned()));
    }
    match table.get("exists").map(|node| &node.value) {
        None => {}
        Some(Value::Flag(true)) => tests.push(HeaderTest::Exists),
        Some(other) => {
            return Err(format!("has an `exists` that is {}; {HEADER_HELP}", describe(other)));
        }
    }
    match <[HeaderTest; 1]>::try_from(tests) {
        Ok([test]) => Ok(HeaderCondition { name, test }),
        Err(_) => {
            Err(format!("does not have exactly one condition on {}; {HEADER_HELP}", quote(&name)))
        }
    }
}

pub(super) fn read_body(node: &Node) -> Result<BodyCondition, String> {
    let table = match &node.value {
        Value::Text(_) => return Ok(BodyCondition::Contains(plain_text(&node.value)?.to_owned())),
        Value::Table(table) => table,
        Value::Integer(_) | Value::Float(_) | Value::Flag(_) | Value::Date(_) | Value::List(_) => {
            return Err(format!("is {}; {BODY_HELP}", describe(&node.value)));
        }
    };
    reject_unknown_keys(table, &BODY_KEYS)?;
    let has = |key: &str| table.contains_key(key);
    match (has("contains"), has("pointer"), has("value")) {
        (true, false, false) => {
            Ok(BodyCondition::Contains(required_text(table, "contains", BODY_HELP)?.to_owned()))
        }
        (false, true, true) => {
            let pointer = required_text(table, "pointer", BODY_HELP)?.to_owned();
            check_pointer(&pointer)?;
            Ok(BodyCondition::JsonPointerEquals { pointer, value: read_scalar(table)? })
        }
        (false, true, false) => Err(format!("has a `pointer` without a `value`; {BODY_HELP}")),
        (false, false, _) | (true, _, _) => {
            Err(format!("needs either `contains`, or a `pointer` with its `value`; {BODY_HELP}"))
        }
    }
}

/// Checks a JSON pointer: parts that each begin with a slash (RFC 6901 §3).
fn check_pointer(pointer: &str) -> Result<(), String> {
    if !pointer.starts_with('/') {
        return Err(format!(
            "has a `pointer` {} that does not begin with a slash; write it like \"/error/code\"",
            quote(pointer)
        ));
    }
    let is_escape = |rest: &str| rest.starts_with('0') || rest.starts_with('1');
    if pointer.split('~').skip(1).any(|rest| !is_escape(rest)) {
        return Err(format!(
            "has a `pointer` {} with an unescaped tilde; \
             write ~0 for a tilde, ~1 for a slash in a name",
            quote(pointer)
        ));
    }
    Ok(())
}

fn read_scalar(table: &Table) -> Result<Scalar, String> {
    match table.get("value").map(|node| &node.value) {
        Some(Value::Text(text)) => Ok(Scalar::Text(text.clone())),
        Some(Value::Integer(number)) => Ok(Scalar::Integer(*number)),
        Some(Value::Flag(flag)) => Ok(Scalar::Flag(*flag)),
        Some(other @ (Value::Float(_) | Value::Date(_) | Value::List(_) | Value::Table(_))) => {
            Err(format!(
                "has a `value` that is {}; write a text, a whole number, true or false",
                describe(other)
            ))
        }
        None => Err(format!("has no `value`; {BODY_HELP}")),
    }
}

pub(super) fn read_class(node: &Node) -> Result<Cause, String> {
    let name = plain_text(&node.value)?;
    let known = class_names();
    if let Some(class) = RULE_CAUSES.into_iter().find(|class| class.name() == name) {
        return Ok(class);
    }
    let remedy = match closest_match(name, known.iter().copied()) {
        Some(suggestion) => format!("did you mean {}?", quote(suggestion)),
        None => format!("the classes are {}", known.join(", ")),
    };
    Err(format!("is {}, which is not a class; {remedy}", quote(name)))
}

pub(super) fn class_names() -> Vec<&'static str> {
    RULE_CAUSES.into_iter().map(Cause::name).collect()
}

pub(super) fn read_scope(node: &Node) -> Result<RuleScope, String> {
    let found = RuleScope::ALL.into_iter().find(|scope| node.value.text() == Some(scope.name()));
    found.ok_or_else(|| {
        format!("is {}; write \"item\", \"listing\" or \"any\"", describe(&node.value))
    })
}

pub(in crate::config) fn read_wait(node: &Node) -> Result<Duration, String> {
    let seconds = node.value.integer().and_then(|seconds| u64::try_from(seconds).ok());
    let wait =
        node.value.text().and_then(parse_duration).or_else(|| seconds.map(Duration::from_secs));
    wait.filter(|wait| !wait.is_zero() && *wait <= MAX_DURATION).ok_or_else(|| {
        format!(
            "is {}; write \"90s\", \"5m\", \"1h\" or whole seconds, more than 0 and at most {}",
            describe(&node.value),
            duration_literal(MAX_DURATION)
        )
    })
}

pub(super) fn unknown_key_message(key: &str, known: &[&'static str]) -> String {
    match closest_match(key, known.iter().copied()) {
        Some(suggestion) => format!("is not a key of a rule; did you mean `{suggestion}`?"),
        None => format!("is not a key of a rule; the keys here are {}", known.join(", ")),
    }
}

fn reject_unknown_keys(table: &Table, known: &[&'static str]) -> Result<(), String> {
    match table.keys().find(|key| !known.contains(&key.as_str())) {
        Some(key) => Err(format!("has a key `{key}`, which {}", unknown_key_message(key, known))),
        None => Ok(()),
    }
}

fn required_text<'t>(table: &'t Table, key: &str, help: &str) -> Result<&'t str, String> {
    match table.get(key) {
        Some(node) => {
            plain_text(&node.value).map_err(|error| format!("has a `{key}` that {error}"))
        }
        None => Err(format!("has no `{key}`; {help}")),
    }
}
