//! Reads `[[provider.NAME.error]]`: the user's rules for classifying a provider's errors.
//!
//! Every error in every rule is reported at its own key. A rule with an error is left out, so that
//! it causes no further errors.

mod conditions;
mod write;

use cynosure_engine::user_input::{Diagnostic, Location};
use cynosure_engine::{ErrorRule, RuleScope};

pub(super) use self::conditions::{read_statuses, read_wait};

use self::conditions::{
    class_names, read_body, read_class, read_header, read_scope, unknown_key_message,
};
use self::write::write_rule;
use super::file::{Node, Table, Value, describe, plain_text};
use super::merge::EnvValueForm;
use super::reader::Section;
use super::show::quote_key;

/// Maximum number of rules of a provider. Each is tried on every failure, and users write fewer.
const RULES_MAX: usize = 100;

const RULE_KEYS: [&str; 7] = ["status", "header", "body", "class", "scope", "wait", "note"];

/// Reads the rules of one provider, none by default.
pub(super) fn read_rules(table: &mut Section<'_, '_>) -> Vec<ErrorRule> {
    let key = table.key("error");
    let given = table.given("error", EnvValueForm::Toml, |node| match &node.value {
        Value::List(items) if items.len() > RULES_MAX => {
            Err(format!("has {} rules; at most {RULES_MAX} are allowed", items.len()))
        }
        Value::List(items) => Ok(items.clone()),
        Value::Text(_)
        | Value::Integer(_)
        | Value::Float(_)
        | Value::Flag(_)
        | Value::Date(_)
        | Value::Table(_) => {
            Err(format!("is {}; write [[{key}]] above each rule", describe(&node.value)))
        }
    });
    let Some((items, location)) = given else { return Vec::new() };
    let mut diagnostics = Vec::new();
    let mut rules: Vec<(ErrorRule, Location)> = Vec::new();
    for node in &items {
        let errors_before = diagnostics.len();
        let rule = RuleReader { key: &key, node, diagnostics: &mut diagnostics }.read();
        if let Some(rule) = rule.filter(|_| diagnostics.len() == errors_before) {
            match rules.iter().find(|(earlier, _)| earlier.shadows(&rule)) {
                Some((earlier, _)) => diagnostics.push(Diagnostic {
                    location: node.location.clone(),
                    message: format!(
                        "`{key}` can never match: the earlier rule at {} matches everything that \
                         this one would; put this one before it, or remove it",
                        earlier.location
                    ),
                }),
                None => rules.push((rule, node.location.clone())),
            }
        }
    }
    for Diagnostic { location, message } in diagnostics {
        table.reader.report_error(location, message);
    }
    let written: Vec<String> = rules.iter().map(|(rule, _)| write_rule(rule)).collect();
    table.record("error", Some(format!("[{}]", written.join(", "))), Some(location));
    rules.into_iter().map(|(rule, _)| rule).collect()
}

/// Reader of one rule.
struct RuleReader<'a> {
    /// Dotted key of the list that contains the rule.
    key: &'a str,
    node: &'a Node,
    diagnostics: &'a mut Vec<Diagnostic>,
}

impl RuleReader<'_> {
    fn read(mut self) -> Option<ErrorRule> {
        let Value::Table(table) = &self.node.value else {
            let message = format!(
                "is {}; write [[{}]] and its keys below it",
                describe(&self.node.value),
                self.key
            );
            self.report(&self.node.location, "", &message);
            return None;
        };
        self.report_unknown_keys(table);
        let statuses = self.read_key(table, "status", read_statuses).unwrap_or_default();
        let header = self.read_key(table, "header", read_header);
        let body = self.read_key(table, "body", read_body);
        let scope = self.read_key(table, "scope", read_scope).unwrap_or(RuleScope::Any);
        let wait = self.read_key(table, "wait", read_wait);
        let note = self.read_key(table, "note", |node| plain_text(&node.value).map(str::to_owned));
        let class = self.read_key(table, "class", read_class);
        if !table.contains_key("class") {
            let message = format!("is missing; write one of {}", class_names().join(", "));
            self.report(&self.node.location, ".class", &message);
        }
        let rule = ErrorRule {
            statuses,
            header,
            body,
            scope,
            cause: class?,
            wait,
            note,
            location: self.node.location.to_string(),
        };
        let has_condition = ["status", "header", "body"].iter().any(|key| table.contains_key(*key));
        if !has_condition {
            let message = "is a rule without a condition, which would match every failure; \
                           add status, header or body";
            self.report(&self.node.location, "", message);
        }
        Some(rule)
    }

    fn read_key<T>(
        &mut self,
        table: &Table,
        key: &str,
        read: impl FnOnce(&Node) -> Result<T, String>,
    ) -> Option<T> {
        let node = table.get(key)?;
        match read(node) {
            Ok(value) => Some(value),
            Err(error) => {
                self.report(&node.location, &format!(".{key}"), &error);
                None
            }
        }
    }

    fn report_unknown_keys(&mut self, table: &Table) {
        for (key, node) in table.iter().filter(|(key, _)| !RULE_KEYS.contains(&key.as_str())) {
            let message = unknown_key_message(key, &RULE_KEYS);
            self.report(&node.location, &format!(".{}", quote_key(key)), &message);
        }
    }

    fn report(&mut self, location: &Location, key: &str, error: &str) {
        let message = format!("`{}{key}` {error}", self.key);
        self.diagnostics.push(Diagnostic { location: location.clone(), message });
    }
}
