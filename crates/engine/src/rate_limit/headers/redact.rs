//! Redaction of rate-limit headers for traces: the result does not identify the client.

use crate::is_secret_header;
use crate::rate_limit::headers::HeaderNames;
use crate::rate_limit::headers::names::classify_name;
use crate::rate_limit::structured::split;

/// Parameters with numbers, and the unit they are in. Others may identify the client (`pk`).
const PUBLIC_PARAMETERS: [&str; 5] = ["q", "w", "qu", "r", "t"];

/// Returns the headers that [`parse_headers`](super::parse_headers) reads, each name once. Names
/// are lower-case.
///
/// Parsing the result gives the same as parsing all `headers`, except for the partition key.
#[must_use]
pub fn redact_headers(headers: &[(&str, &str)], names: &HeaderNames) -> Vec<(String, String)> {
    let mut redacted: Vec<(String, String)> = Vec::new();
    for &(name, text) in headers {
        let text = match redaction_rule(name, names) {
            RedactionRule::KeepWhole => text.to_owned(),
            RedactionRule::KeepNumbers => keep_numbers(text),
            RedactionRule::Omit => continue,
        };
        match redacted.iter_mut().find(|(known, _)| known == name) {
            None => redacted.push((name.to_owned(), text)),
            // Lines of one list are joined (RFC 9110 §5.3); of anything else the last one counts.
            Some((_, before)) if is_list(name) => *before = format!("{before}, {text}"),
            Some((_, before)) => *before = text,
        }
    }
    // The date of the server alone says nothing about limits.
    if redacted.iter().all(|(name, _)| name == "date") {
        redacted.clear();
    }
    redacted
}

enum RedactionRule {
    /// A time or a duration in one value.
    KeepWhole,
    /// A list of items with parameters, or a single number.
    KeepNumbers,
    Omit,
}

fn redaction_rule(name: &str, names: &HeaderNames) -> RedactionRule {
    let given = [&names.limit, &names.remaining, &names.reset];
    let is_given = given.iter().any(|given| given.as_deref() == Some(name));
    match name {
        "retry-after" | "age" | "date" => RedactionRule::KeepWhole,
        _ if is_secret_header(name) => RedactionRule::Omit,
        _ if is_given || classify_name(name).is_some() => RedactionRule::KeepNumbers,
        _ => RedactionRule::Omit,
    }
}

fn is_list(name: &str) -> bool {
    matches!(name, "ratelimit" | "ratelimit-policy")
}

fn keep_numbers(text: &str) -> String {
    let items = split(text, b',').map(|item| {
        let mut parts = split(item, b';');
        let value = parts.next().unwrap_or_default();
        let public = parts.filter(|part| {
            part.split_once('=').is_some_and(|(key, _)| PUBLIC_PARAMETERS.contains(&key.trim()))
        });
        std::iter::once(value).chain(public).collect::<Vec<_>>().join(";")
    });
    items.collect::<Vec<_>>().join(", ")
}
