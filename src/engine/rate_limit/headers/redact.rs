//! What a reply's headers say of limits, fit to be shown to anybody: nothing in it is about who asked.

use crate::engine::is_secret_header;
use crate::engine::rate_limit::HeaderNames;
use crate::engine::rate_limit::headers::names::classify_name;
use crate::engine::rate_limit::structured::split;

/// The parameters of an item that are figures, and the unit that they are in. Others may name the client (`pk`).
const PUBLIC_PARAMETERS: [&str; 5] = ["q", "w", "qu", "r", "t"];

/// Returns what [`read`](super::read) makes something of, each name once. Names are lower-case.
///
/// What is read from it is what is read from all `headers`, but for whose limit it is.
#[must_use]
pub fn redact_headers(headers: &[(&str, &str)], names: &HeaderNames) -> Vec<(String, String)> {
    let mut kept: Vec<(String, String)> = Vec::new();
    for &(name, text) in headers {
        let text = match redaction_rule(name, names) {
            RedactionRule::KeepWhole => text.to_owned(),
            RedactionRule::KeepNumbers => keep_numbers(text),
            RedactionRule::Omit => continue,
        };
        match kept.iter_mut().find(|(known, _)| known == name) {
            None => kept.push((name.to_owned(), text)),
            // Lines of one list go together (RFC 9110 §5.3); of anything else the last counts.
            Some((_, before)) if is_list(name) => *before = format!("{before}, {text}"),
            Some((_, before)) => *before = text,
        }
    }
    // The server's clock tells nothing of limits by itself.
    if kept.iter().all(|(name, _)| name == "date") {
        kept.clear();
    }
    kept
}

enum RedactionRule {
    /// When and how long, in one value.
    KeepWhole,
    /// A list of items with parameters, or a single figure.
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
        let known = parts.filter(|part| {
            part.split_once('=').is_some_and(|(key, _)| PUBLIC_PARAMETERS.contains(&key.trim()))
        });
        std::iter::once(value).chain(known).collect::<Vec<_>>().join(";")
    });
    items.collect::<Vec<_>>().join(", ")
}
