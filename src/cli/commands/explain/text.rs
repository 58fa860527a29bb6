//! Text output of `explain`: labelled lines.

use cynosure_engine::rate_limit::ReportedLimits;
use cynosure_engine::rest::TableName;
use cynosure_engine::{MatchedRule, RequestScope, Timestamp, format_duration, sanitize_line};

use super::consequence::{Consequence, DelayRange};
use super::input::{ExplainInput, ExplainPolicies};
use super::profile::ExplainedProfile;
use super::{Explanation, format_timestamp, limits};
use crate::cli::commands::profile_text::{rule_condition, table_names};
use crate::cli::key_values::KeyValueTable;
use crate::human::pluralize;

pub(super) fn explain_text(
    input: &ExplainInput,
    policies: &ExplainPolicies,
    limit_headers: &ReportedLimits,
    explanations: &[Explanation<'_>],
    now: Timestamp,
) -> String {
    let mut table = KeyValueTable::default();
    table.add_all("response", response_lines(input, policies));
    for explanation in explanations {
        if explanations.len() > 1 {
            table.add("for", scopes_text(&explanation.scopes()));
        }
        table.add("rule", rule_text(&explanation.classification.matched_rule));
        let cause = explanation.classification.cause;
        table.add("cause", format!("{cause} ({})", cause.category().name()));
        let recorded = input.origin.as_ref().and_then(|origin| origin.cause);
        if let Some(recorded) = recorded.filter(|recorded| *recorded != cause) {
            table.add(
                "earlier",
                format!("failed as {recorded}: the response or the rules were different"),
            );
        }
        add_consequences(&mut table, &explanation.consequences);
        if let Some(block) = &explanation.block {
            let mut lines = delay_lines(block);
            if let Some(first) = lines.first_mut() {
                *first = format!("all requests are blocked for {first}");
            }
            table.add_all("block", lines);
        }
        if let Some(advice) = explanation.advice() {
            table.add("advice", sanitize_line(advice));
        }
    }
    let limits = limits::limit_lines(input, limit_headers, now);
    if limits.is_empty() {
        table.add("quota", "the headers contain no limit");
    }
    table.add_all("quota", limits);
    table.render()
}

/// Adds the actions, each with its scopes if there are several, and its delay.
pub(super) fn add_consequences(table: &mut KeyValueTable, consequences: &[Consequence]) {
    for consequence in consequences {
        let prefix = match consequences.len() {
            1 => String::new(),
            _ => format!("{}: ", scopes_text(&consequence.scopes)),
        };
        table.add("action", format!("{prefix}{}", consequence.description));
        if let Some(delay) = &consequence.delay {
            table.add_all("delay", delay_lines(delay));
        }
    }
}

fn response_lines(input: &ExplainInput, policies: &ExplainPolicies) -> Vec<String> {
    let headers = match input.headers.len() {
        0 => "no header".to_owned(),
        count => pluralize(count as u64, "header"),
    };
    let body = match input.body.len() {
        0 => "no body".to_owned(),
        bytes => format!("a body of {}", pluralize(bytes as u64, "byte")),
    };
    let mut lines = vec![format!("{}, {headers}, {body}", input.status)];
    if (200..300).contains(&input.status) {
        lines.push("a success; this applies only if its content is unexpected".to_owned());
    }
    if let Some(origin) = &input.origin {
        let subject = match &origin.item {
            Some(item) => format!("the item {}", sanitize_line(item)),
            None => "the session".to_owned(),
        };
        lines.push(format!(
            "recorded for {subject} of {}, {}",
            origin.source,
            format_timestamp(input.at)
        ));
        if origin.is_truncated {
            lines.push(
                "only the beginning of the body was stored: a rule that matches the rest has no \
                 effect here"
                    .to_owned(),
            );
        }
    }
    lines.push(rules_text(policies));
    if policies.is_profile_ambiguous {
        lines.push("name a source with --source to apply the rules of its profile".to_owned());
    }
    if let Some(profile) = policies.profile.as_ref().filter(|profile| !profile.rules.is_empty()) {
        lines.extend(table_lines(input, profile));
    }
    lines
}

/// Names the rules that were tried, in their order.
fn rules_text(policies: &ExplainPolicies) -> String {
    let user_rules = policies.provider.as_ref().filter(|_| !policies.rules.is_empty());
    let user_rules = user_rules.map(|provider| {
        let rules = pluralize(policies.rules.len() as u64, "rule");
        format!("{rules} of provider {}", sanitize_line(provider))
    });
    let profile = policies.profile.as_ref().filter(|profile| !profile.rules.is_empty());
    let profile_rules = profile.map(|profile| {
        let rules = pluralize(profile.rules.len() as u64, "rule");
        match &profile.name {
            Some(name) => format!("{rules} of profile {}", sanitize_line(name)),
            None => format!("{rules} of the source"),
        }
    });
    let before: Vec<String> = user_rules.into_iter().chain(profile_rules).collect();
    if !before.is_empty() {
        return format!("classified by {}, then by the built-in rules", before.join(", then by "));
    }
    match &policies.provider {
        Some(provider) => format!(
            "classified by the built-in rules: provider {} has no error rules",
            sanitize_line(provider)
        ),
        None if policies.is_provider_ambiguous => {
            "classified by the built-in rules only: name a provider with --provider to apply its \
             rules"
                .to_owned()
        }
        None => "classified by the built-in rules".to_owned(),
    }
}

/// Names the tables of the profile whose rules were tried, and the others that have rules.
fn table_lines(input: &ExplainInput, profile: &ExplainedProfile) -> Vec<String> {
    let tried: Vec<TableName> = input.scopes.iter().map(|scope| input.table_for(*scope)).collect();
    let mut lines = vec![format!("as a response to {}", table_names(&tried))];
    let others = profile.other_tables(&tried);
    if input.table.is_none() && !others.is_empty() {
        lines.push(format!(
            "for the rules of {}, name the table with --table",
            table_names(&others)
        ));
    }
    lines
}

fn rule_text(matched: &MatchedRule<'_>) -> String {
    match matched {
        MatchedRule::BuiltIn(rule) => format!("{} (built in): {}", rule.name(), rule.condition()),
        MatchedRule::UserDefined(rule) => {
            let note = rule.note.as_ref().map(|note| format!(": {}", sanitize_line(note)));
            format!("your rule at {}{}", sanitize_line(&rule.location), note.unwrap_or_default())
        }
        MatchedRule::Profile(rule) => format!(
            "rule of the profile at {}: {}",
            sanitize_line(&rule.location),
            rule_condition(rule)
        ),
    }
}

/// Returns the delay and the delays after it on one line, then the reasons.
fn delay_lines(delay: &DelayRange) -> Vec<String> {
    let range = |(shortest, longest): &(_, _)| {
        let (shortest, longest) = (format_duration(*shortest), format_duration(*longest));
        if shortest == longest { longest } else { format!("{shortest} to {longest}") }
    };
    let mut line = range(&(delay.shortest, delay.longest));
    if !delay.next_delays.is_empty() {
        let next_delays: Vec<_> = delay.next_delays.iter().map(range).collect();
        line.push_str(&format!(", then {}", next_delays.join(", ")));
    }
    std::iter::once(line).chain(delay.reasons.iter().cloned()).collect()
}

/// Joins scopes, such as `an item` or `the listing and the session`.
fn scopes_text(scopes: &[RequestScope]) -> String {
    let names = scopes.iter().map(|scope| match scope {
        RequestScope::Item => "an item",
        RequestScope::Listing => "the listing",
        RequestScope::Session => "the session",
    });
    names.collect::<Vec<_>>().join(" and ")
}
