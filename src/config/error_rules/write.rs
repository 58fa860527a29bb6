//! Rules as TOML, for `config show`.

use cynosure_engine::user_input::duration_literal;
use cynosure_engine::{
    BodyCondition, ErrorRule, HeaderCondition, HeaderTest, RuleScope, Scalar, StatusRange,
};

use super::super::show::quote;

/// Writes a rule as TOML on one line.
pub(super) fn write_rule(rule: &ErrorRule) -> String {
    let write_status = |range: &StatusRange| match range.last - range.first {
        0 => range.first.to_string(),
        _ => quote(&format!("{}xx", range.first / 100)),
    };
    let mut keys = Vec::new();
    if !rule.statuses.is_empty() {
        let statuses: Vec<String> = rule.statuses.iter().map(write_status).collect();
        keys.push(format!("status = [{}]", statuses.join(", ")));
    }
    if let Some(HeaderCondition { name, test }) = &rule.header {
        let test = match test {
            HeaderTest::Exists => "exists = true".to_owned(),
            HeaderTest::Equals(text) => format!("equals = {}", quote(text)),
            HeaderTest::Contains(text) => format!("contains = {}", quote(text)),
        };
        keys.push(format!("header = {{ name = {}, {test} }}", quote(name)));
    }
    keys.extend(rule.body.as_ref().map(|body| match body {
        BodyCondition::Contains(text) => format!("body = {}", quote(text)),
        BodyCondition::JsonPointerEquals { pointer, value } => {
            let value = match value {
                Scalar::Text(text) => quote(text),
                Scalar::Integer(number) => number.to_string(),
                Scalar::Flag(flag) => flag.to_string(),
            };
            format!("body = {{ pointer = {}, value = {value} }}", quote(pointer))
        }
    }));
    keys.push(format!("class = {}", quote(rule.cause.name())));
    if rule.scope != RuleScope::Any {
        keys.push(format!("scope = {}", quote(rule.scope.name())));
    }
    keys.extend(rule.wait.map(|wait| format!("wait = {}", quote(&duration_literal(wait)))));
    keys.extend(rule.note.as_ref().map(|note| format!("note = {}", quote(note))));
    format!("{{ {} }}", keys.join(", "))
}
