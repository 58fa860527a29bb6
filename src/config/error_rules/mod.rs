//! Reads `[[provider.NAME.error]]`: what a user knows of a provider's errors, one rule each.
//!
//! Every mistake of every rule is reported at its own key. A rule with a mistake is left out, so
//! that nothing follows from it.

mod conditions;
mod write;

use super::ask::{describe, plain_text};
use super::diagnostic::Diagnostic;
use super::file::{Node, Table, Value};
use super::location::Location;
use super::merge::Variable;
use super::reader::Section;
use super::show::quote_key;
use super::suggest::closest_match;
use crate::engine::{ErrorRule, RuleScope};

use self::conditions::{
    class_names, read_body, read_class, read_header, read_scope, read_statuses, read_wait,
};
use self::write::write_rule;

/// More rules than this are a program's, not a person's; each is tried on every failure.
const RULES_MAX: usize = 100;

const RULE_KEYS: [&str; 7] = ["status", "header", "body", "class", "scope", "wait", "note"];
/// Reads the rules of one provider, none by default.
pub(super) fn read_rules(table: &mut Section<'_, '_>) -> Vec<ErrorRule> {
    let key = table.key("error");
    let given = table.given("error", Variable::Toml, |node| match &node.value {
        Value::List(items) if items.len() > RULES_MAX => {
            Err(format!("has {} rules; {RULES_MAX} is the most there may be", items.len()))
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
    let Some((items, place)) = given else { return Vec::new() };
    let mut mistakes = Vec::new();
    let mut rules: Vec<(ErrorRule, Location)> = Vec::new();
    for node in &items {
        let found = mistakes.len();
        let rule = RuleReader { key: &key, node, mistakes: &mut mistakes }.read();
        if let Some(rule) = rule.filter(|_| mistakes.len() == found) {
            match rules.iter().find(|(earlier, _)| earlier.shadows(&rule)) {
                Some((earlier, _)) => mistakes.push(Diagnostic {
                    location: node.place.clone(),
                    message: format!(
                        "`{key}` can never match: the rule at {} matches all that it would, and comes \
                         first; put this one before it, or remove it",
                        earlier.location
                    ),
                }),
                None => rules.push((rule, node.place.clone())),
            }
        }
    }
    for Diagnostic { location: place, message: what } in mistakes {
        table.reader.refuse(place, what);
    }
    let written: Vec<String> = rules.iter().map(|(rule, _)| write_rule(rule)).collect();
    table.enter("error", Some(format!("[{}]", written.join(", "))), Some(place));
    rules.into_iter().map(|(rule, _)| rule).collect()
}

/// One rule while it is read.
struct RuleReader<'a> {
    /// The dotted key of the list it is in.
    key: &'a str,
    node: &'a Node,
    mistakes: &'a mut Vec<Diagnostic>,
}

impl RuleReader<'_> {
    fn read(mut self) -> Option<ErrorRule> {
        let Value::Table(table) = &self.node.value else {
            let what = format!(
                "is {}; write [[{}]] and its keys below it",
                describe(&self.node.value),
                self.key
            );
            self.report(&self.node.place, "", &what);
            return None;
        };
        self.report_unknown_keys(table, "", &RULE_KEYS);
        let statuses = self.read_key(table, "status", read_statuses).unwrap_or_default();
        let header = self.read_key(table, "header", read_header);
        let body = self.read_key(table, "body", read_body);
        let reach = self.read_key(table, "scope", read_scope).unwrap_or(RuleScope::Any);
        let wait = self.read_key(table, "wait", read_wait);
        let note = self.read_key(table, "note", |node| plain_text(&node.value).map(str::to_owned));
        let class = self.read_key(table, "class", read_class);
        if !table.contains_key("class") {
            let what = format!("is missing; write one of {}", class_names().join(", "));
            self.report(&self.node.place, ".class", &what);
        }
        let rule = ErrorRule {
            statuses,
            header,
            body,
            scope: reach,
            cause: class?,
            wait,
            note,
            location: self.node.place.to_string(),
        };
        let has_condition = ["status", "header", "body"].iter().any(|key| table.contains_key(*key));
        if !has_condition {
            let what = "is a rule without a condition, which would match every failure; add status, header or body";
            self.report(&self.node.place, "", what);
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
            Err(complaint) => {
                self.report(&node.place, &format!(".{key}"), &complaint);
                None
            }
        }
    }

    fn report_unknown_keys(&mut self, table: &Table, within: &str, known: &[&'static str]) {
        for (key, node) in table.iter().filter(|(key, _)| !known.contains(&key.as_str())) {
            let remedy = unknown_key_message(key, known);
            self.report(&node.place, &format!("{within}.{}", quote_key(key)), &remedy);
        }
    }

    fn report(&mut self, place: &Location, key: &str, complaint: &str) {
        let what = format!("`{}{key}` {complaint}", self.key);
        self.mistakes.push(Diagnostic { location: place.clone(), message: what });
    }
}

fn unknown_key_message(key: &str, known: &[&'static str]) -> String {
    match closest_match(key, known.iter().copied()) {
        Some(meant) => format!("is no key of a rule; did you mean `{meant}`?"),
        None => format!("is no key of a rule; the keys here are {}", known.join(", ")),
    }
}
