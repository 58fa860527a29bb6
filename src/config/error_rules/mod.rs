//! Reads `[[provider.NAME.error]]`: what a user knows of a provider's errors, one rule each.
//!
//! Every mistake of every rule is reported at its own key. A rule with a mistake is left out, so
//! that nothing follows from it.

mod conditions;
mod write;

use super::ask::{describe, plain_text};
use super::file::{Node, Table, Value};
use super::merge::Variable;
use super::mistake::Mistake;
use super::place::Place;
use super::reader::Section;
use super::show::quote_key;
use super::suggest::nearest;
use crate::engine::{ErrorRule, RuleScope};

use self::conditions::{body, class, class_names, header, reach, statuses, wait};
use self::write::write;

/// More rules than this are a program's, not a person's; each is tried on every failure.
const RULES_MAX: usize = 100;

const KEYS: [&str; 7] = ["status", "header", "body", "class", "scope", "wait", "note"];
/// Reads the rules of one provider, none by default.
pub(super) fn read(table: &mut Section<'_, '_>) -> Vec<ErrorRule> {
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
    let mut rules: Vec<(ErrorRule, Place)> = Vec::new();
    for node in &items {
        let found = mistakes.len();
        let rule = Rule { key: &key, node, mistakes: &mut mistakes }.read();
        if let Some(rule) = rule.filter(|_| mistakes.len() == found) {
            match rules.iter().find(|(earlier, _)| earlier.shadows(&rule)) {
                Some((earlier, _)) => mistakes.push(Mistake {
                    place: node.place.clone(),
                    what: format!(
                        "`{key}` can never match: the rule at {} matches all that it would, and comes \
                         first; put this one before it, or remove it",
                        earlier.location
                    ),
                }),
                None => rules.push((rule, node.place.clone())),
            }
        }
    }
    for Mistake { place, what } in mistakes {
        table.reader.refuse(place, what);
    }
    let written: Vec<String> = rules.iter().map(|(rule, _)| write(rule)).collect();
    table.enter("error", Some(format!("[{}]", written.join(", "))), Some(place));
    rules.into_iter().map(|(rule, _)| rule).collect()
}

/// One rule while it is read.
struct Rule<'a> {
    /// The dotted key of the list it is in.
    key: &'a str,
    node: &'a Node,
    mistakes: &'a mut Vec<Mistake>,
}

impl Rule<'_> {
    fn read(mut self) -> Option<ErrorRule> {
        let Value::Table(table) = &self.node.value else {
            let what = format!(
                "is {}; write [[{}]] and its keys below it",
                describe(&self.node.value),
                self.key
            );
            self.refuse(&self.node.place, "", &what);
            return None;
        };
        self.refuse_unknown(table, "", &KEYS);
        let statuses = self.ask(table, "status", statuses).unwrap_or_default();
        let header = self.ask(table, "header", header);
        let body = self.ask(table, "body", body);
        let reach = self.ask(table, "scope", reach).unwrap_or(RuleScope::Any);
        let wait = self.ask(table, "wait", wait);
        let note = self.ask(table, "note", |node| plain_text(&node.value).map(str::to_owned));
        let class = self.ask(table, "class", class);
        if !table.contains_key("class") {
            let what = format!("is missing; write one of {}", class_names().join(", "));
            self.refuse(&self.node.place, ".class", &what);
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
            self.refuse(&self.node.place, "", what);
        }
        Some(rule)
    }

    fn ask<T>(
        &mut self,
        table: &Table,
        key: &str,
        read: impl FnOnce(&Node) -> Result<T, String>,
    ) -> Option<T> {
        let node = table.get(key)?;
        match read(node) {
            Ok(value) => Some(value),
            Err(complaint) => {
                self.refuse(&node.place, &format!(".{key}"), &complaint);
                None
            }
        }
    }

    fn refuse_unknown(&mut self, table: &Table, within: &str, known: &[&'static str]) {
        for (key, node) in table.iter().filter(|(key, _)| !known.contains(&key.as_str())) {
            let remedy = unknown(key, known);
            self.refuse(&node.place, &format!("{within}.{}", quote_key(key)), &remedy);
        }
    }

    fn refuse(&mut self, place: &Place, key: &str, complaint: &str) {
        let what = format!("`{}{key}` {complaint}", self.key);
        self.mistakes.push(Mistake { place: place.clone(), what });
    }
}

fn unknown(key: &str, known: &[&'static str]) -> String {
    match nearest(key, known.iter().copied()) {
        Some(meant) => format!("is no key of a rule; did you mean `{meant}`?"),
        None => format!("is no key of a rule; the keys here are {}", known.join(", ")),
    }
}
