//! The explanation in a few lines.

use super::consequence::DelayRange;
use super::input::{ExplainInput, ExplainPolicies};
use super::{ExplainedReply, format_timestamp, limits};
use crate::cli::key_values::KeyValueTable;
use crate::engine::rate_limit::RateLimitHeaders;
use crate::engine::{MatchedRule, RequestScope, Timestamp, sanitize_line};
use crate::human::{format_duration, pluralize};

pub(super) fn explain_text(
    asked: &ExplainInput,
    basis: &ExplainPolicies,
    signals: &RateLimitHeaders,
    judged: &[ExplainedReply<'_>],
    now: Timestamp,
) -> String {
    let mut facts = KeyValueTable::default();
    facts.add_all("reply", reply_lines(asked, basis));
    for each in judged {
        if judged.len() > 1 {
            facts.add("for", scopes_text(&each.scopes()));
        }
        facts.add("rule", rule_text(&each.classification.matched_rule));
        let cause = each.classification.cause;
        facts.add("cause", format!("{cause} ({})", cause.category().name()));
        let then = asked.origin.as_ref().and_then(|recorded| recorded.cause);
        if let Some(then) = then.filter(|then| *then != cause) {
            facts.add("then", format!("it failed as {then}: of another reply, or by other rules"));
        }
        for outlook in &each.consequences {
            let of = match each.consequences.len() {
                1 => String::new(),
                _ => format!("{}: ", scopes_text(&outlook.scopes)),
            };
            facts.add("verdict", format!("{of}{}", outlook.description));
            if let Some(delay) = &outlook.delay {
                facts.add_all("delay", delay_lines(delay));
            }
        }
        if let Some(gate) = &each.block {
            let mut lines = delay_lines(gate);
            if let Some(first) = lines.first_mut() {
                *first = format!("closed to every request for {first}");
            }
            facts.add_all("gate", lines);
        }
    }
    let limits = limits::limit_lines(asked, signals, now);
    if limits.is_empty() {
        facts.add("quota", "the headers say nothing of one");
    }
    facts.add_all("quota", limits);
    facts.render()
}

fn reply_lines(asked: &ExplainInput, basis: &ExplainPolicies) -> Vec<String> {
    let headers = match asked.headers.len() {
        0 => "no header".to_owned(),
        several => pluralize(several as u64, "header"),
    };
    let body = match asked.body.len() {
        0 => "no body".to_owned(),
        bytes => format!("a body of {}", pluralize(bytes as u64, "byte")),
    };
    let mut lines = vec![format!("{}, {headers}, {body}", asked.status)];
    if (200..300).contains(&asked.status) {
        lines.push("a success, unless it is not what was asked for: then this follows".to_owned());
    }
    if let Some(recorded) = &asked.origin {
        let whose = match &recorded.item {
            Some(item) => format!("the item {}", sanitize_line(item)),
            None => "the session".to_owned(),
        };
        lines.push(format!(
            "recorded for {whose} of {}, {}",
            recorded.source,
            format_timestamp(asked.at)
        ));
        if recorded.is_truncated {
            lines.push(
                "only the beginning of the body was kept: rules that read the rest may differ"
                    .to_owned(),
            );
        }
    }
    lines.push(match &basis.provider {
        Some(provider) if basis.rules.is_empty() => {
            format!("judged by the built-in rules: provider {} has none", sanitize_line(provider))
        }
        Some(provider) => {
            let rules = pluralize(basis.rules.len() as u64, "rule");
            format!(
                "judged by {rules} of provider {}, then by those built in",
                sanitize_line(provider)
            )
        }
        None if basis.is_provider_ambiguous => {
            "judged by the built-in rules only: --provider says whose rules to try".to_owned()
        }
        None => "judged by the built-in rules".to_owned(),
    });
    lines
}

fn rule_text(matched: &MatchedRule<'_>) -> String {
    match matched {
        MatchedRule::BuiltIn(rule) => format!("{} (built in): {}", rule.name(), rule.condition()),
        MatchedRule::UserDefined(rule) => {
            let note = rule.note.as_ref().map(|note| format!(": {}", sanitize_line(note)));
            format!("yours at {}{}", sanitize_line(&rule.location), note.unwrap_or_default())
        }
    }
}

/// How long, then why.
fn delay_lines(delay: &DelayRange) -> Vec<String> {
    let range = |(shortest, longest): &(_, _)| {
        let (shortest, longest) = (format_duration(*shortest), format_duration(*longest));
        if shortest == longest { longest } else { format!("{shortest} to {longest}") }
    };
    let mut words = range(&(delay.shortest, delay.longest));
    if !delay.next_delays.is_empty() {
        let then: Vec<_> = delay.next_delays.iter().map(range).collect();
        words.push_str(&format!(", then {}", then.join(", ")));
    }
    std::iter::once(words).chain(delay.reasons.iter().cloned()).collect()
}

/// `an item`, `the listing and the session`.
fn scopes_text(scopes: &[RequestScope]) -> String {
    let names = scopes.iter().map(|scope| match scope {
        RequestScope::Item => "an item",
        RequestScope::Listing => "the listing",
        RequestScope::Session => "the session",
    });
    names.collect::<Vec<_>>().join(" and ")
}
