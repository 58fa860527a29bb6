//! Conditions of a rule of a profile.

use cynosure_engine::rest::{ProfileErrorRule, ValueCondition, ValueTest};
use cynosure_engine::{StatusRange, sanitize_line};

use super::{join_or, quote_paths, quote_scalars, table_names};

/// Returns the conditions of a rule, such as `403 or 429 to [list], where "/error/code" is 7`.
pub(in crate::cli::commands) fn rule_condition(rule: &ProfileErrorRule) -> String {
    let mut text = match rule.statuses.as_slice() {
        [] => "any status".to_owned(),
        statuses => join_or(statuses.iter().map(status_text).collect()),
    };
    if !rule.tables.is_empty() {
        text.push_str(&format!(" to {}", table_names(&rule.tables)));
    }
    let values: Vec<String> = rule.values.iter().map(value_text).collect();
    if !values.is_empty() {
        text.push_str(&format!(", where {}", values.join(" and ")));
    }
    sanitize_line(&text)
}

fn status_text(range: &StatusRange) -> String {
    match (range.first, range.last) {
        (first, last) if first == last => first.to_string(),
        (first, last) => format!("{first} to {last}"),
    }
}

fn value_text(condition: &ValueCondition) -> String {
    let path = quote_paths([&condition.at]);
    match &condition.test {
        ValueTest::Exists => format!("{path} exists"),
        ValueTest::Is(scalars) => format!("{path} is {}", quote_scalars(scalars)),
        ValueTest::Contains(text) => format!("{path} contains {text:?}"),
    }
}

#[cfg(test)]
mod tests {
    use cynosure_engine::rest::{JsonPath, TableName};
    use cynosure_engine::{Cause, Scalar};

    use super::*;

    fn condition(at: &str, test: ValueTest) -> ValueCondition {
        ValueCondition { at: JsonPath::parse(at).unwrap(), test }
    }

    #[test]
    fn all_conditions_of_a_rule_are_named() {
        let rule = ProfileErrorRule {
            tables: vec![TableName::List],
            statuses: vec![
                StatusRange { first: 403, last: 403 },
                StatusRange { first: 500, last: 599 },
            ],
            values: vec![
                condition("/error", ValueTest::Exists),
                condition("/code", ValueTest::Is(vec![Scalar::Integer(7), Scalar::Integer(8)])),
                condition("/text", ValueTest::Contains("\u{1b}quota".to_owned())),
            ],
            cause: Cause::RateLimit,
            wait: None,
            message: None,
            reported_wait: None,
            location: String::new(),
        };

        assert_eq!(
            rule_condition(&rule),
            "403 or 500 to 599 to [list], where \"/error\" exists and \"/code\" is 7 or 8 and \
             \"/text\" contains \"\\u{1b}quota\""
        );
        let any = ProfileErrorRule {
            tables: Vec::new(),
            statuses: Vec::new(),
            values: Vec::new(),
            ..rule
        };
        assert_eq!(rule_condition(&any), "any status");
    }
}
