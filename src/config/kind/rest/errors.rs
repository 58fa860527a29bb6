//! Rules for errors: `[[error]]`.
//!
//! Every error in every rule is reported at its own key.

use std::time::Duration;

use cynosure_engine::rest::{
    ProfileErrorRule, ReportedWait, TableName, ValueCondition, ValueTest, WaitFormat,
};
use cynosure_engine::user_input::{Location, closest_match};
use cynosure_engine::{Cause, RULE_CAUSES, StatusRange};

use crate::config::error_rules::{read_statuses, read_wait};
use crate::config::file::{Node, Table, Value, describe, plain_text};
use crate::config::kind::rest::nodes::{TableNode, quoted_names};
use crate::config::kind::rest::values::{read_scalars, required_path};
use crate::config::merge::EnvValueForm;
use crate::config::reader::{Reader, Section};
use crate::config::show::quote;

/// Maximum number of rules. Each is tried on every failure.
const RULES_MAX: usize = 100;

/// Names of causes that read better in a profile.
const CLASS_ALIASES: [(&str, Cause); 2] = [("gone", Cause::NotFound), ("transient", Cause::Server)];

const CONDITION_HELP: &str = "add status = 403, or at = \"/error/code\" with `is` or `contains`";

/// Reads the rules.
pub(super) fn read_rules(
    reader: &mut Reader<'_>,
    table: Option<TableNode>,
) -> Vec<ProfileErrorRule> {
    let Some(TableNode { name, node }) = table else { return Vec::new() };
    let Value::List(items) = node.value else {
        let found = describe(&node.value);
        let message = format!("`{name}` is {found}; write [[{name}]] above each rule");
        reader.report_error(node.location, message);
        return Vec::new();
    };
    if RULES_MAX < items.len() {
        let message =
            format!("`{name}` has {} rules; at most {RULES_MAX} are allowed", items.len());
        reader.report_error(node.location, message);
        return Vec::new();
    }
    items.into_iter().filter_map(|item| read_rule(reader, &name, item)).collect()
}

fn read_rule(reader: &mut Reader<'_>, name: &str, node: Node) -> Option<ProfileErrorRule> {
    let location = node.location.clone();
    let table = reader.as_table(name, node)?;
    reader.section(name, table, |rule| {
        let conditions = read_when(rule, &location);
        let verdict = read_then(rule, &location);
        let reported_wait = read_told(rule);
        let Conditions { tables, statuses, values } = conditions?;
        let Verdict { cause, wait, message } = verdict?;
        Some(ProfileErrorRule {
            tables,
            statuses,
            values,
            cause,
            wait,
            message,
            reported_wait: reported_wait?,
            location: location.to_string(),
        })
    })
}

/// Value of `when`.
struct Conditions {
    tables: Vec<TableName>,
    statuses: Vec<StatusRange>,
    values: Vec<ValueCondition>,
}

fn read_when(rule: &mut Section<'_, '_>, location: &Location) -> Option<Conditions> {
    let (when, location) = take_table(rule, "when", location, CONDITION_HELP)?;
    let name = rule.key("when");
    rule.reader.section(&name, when, |when| {
        let has_value = ["at", "is", "contains"].iter().any(|key| when.contains(key));
        let has_condition = has_value || when.contains("status") || when.contains("and");
        let tables = when.given("on", EnvValueForm::Toml, read_table_names);
        let statuses = when.given("status", EnvValueForm::Toml, read_statuses);
        let mut values = Vec::new();
        if has_value {
            values.extend(read_condition(when, &location));
        }
        if when.contains("and") {
            let help = "write and = { at = \"/error/code\", is = 7 }";
            let (and, location) = take_table(when, "and", &location, help)?;
            let name = when.key("and");
            values.extend(when.reader.section(&name, and, |and| read_condition(and, &location)));
        }
        if !has_condition {
            let message = format!(
                "`{}` has no condition on the response, and would match every failure; \
                 {CONDITION_HELP}",
                when.key("status")
            );
            when.reader.report_error(location.clone(), message);
            return None;
        }
        let tables = tables.map(|(tables, _)| tables).unwrap_or_default();
        let statuses = statuses.map(|(statuses, _)| statuses).unwrap_or_default();
        Some(Conditions { tables, statuses, values })
    })
}

/// Reads `at`, with `is`, `contains` or neither.
fn read_condition(table: &mut Section<'_, '_>, location: &Location) -> Option<ValueCondition> {
    let help = "write at = \"/error/code\", the path of the value in the response";
    let at = required_path(table, "at", location, help);
    let (has_is, has_contains) = (table.contains("is"), table.contains("contains"));
    let is = table.given("is", EnvValueForm::Toml, read_scalars);
    let contains = table
        .given("contains", EnvValueForm::Toml, |node| plain_text(&node.value).map(str::to_owned));
    let test = match (is, contains) {
        (Some(_), Some((_, location))) => {
            let message = format!("`{}` stands beside `is`; remove one", table.key("contains"));
            table.reader.report_error(location, message);
            return None;
        }
        (Some((values, _)), None) => ValueTest::Is(values),
        (None, Some((text, _))) => ValueTest::Contains(text),
        (None, None) if has_is || has_contains => return None,
        (None, None) => ValueTest::Exists,
    };
    Some(ValueCondition { at: at?, test })
}

/// Value of `then`.
struct Verdict {
    cause: Cause,
    wait: Option<Duration>,
    message: Option<String>,
}

fn read_then(rule: &mut Section<'_, '_>, location: &Location) -> Option<Verdict> {
    let help = format!("write then = {}", quoted_names(class_names()));
    let Some(node) = rule.take("then") else {
        let message = format!("`{}` is missing; {help}", rule.key("then"));
        rule.reader.report_error(location.clone(), message);
        return None;
    };
    let name = rule.key("then");
    let location = node.location.clone();
    if let Value::Table(table) = &node.value {
        let table = table.clone();
        return rule.reader.section(&name, table, |then| {
            let class = then.required("class", EnvValueForm::Toml, &location, &help, read_class);
            let wait = then.given("wait", EnvValueForm::Toml, read_wait);
            let say = then.given("say", EnvValueForm::Toml, |node| {
                plain_text(&node.value).map(str::to_owned)
            });
            let (wait, message) = (wait.map(|(wait, _)| wait), say.map(|(say, _)| say));
            Some(Verdict { cause: class?.0, wait, message })
        });
    }
    match read_class(&node) {
        Ok(cause) => Some(Verdict { cause, wait: None, message: None }),
        Err(error) => {
            rule.reader.report_error(location, format!("`{name}` {error}"));
            None
        }
    }
}

/// Reads `told`. The outer option is `None` if it is invalid.
fn read_told(rule: &mut Section<'_, '_>) -> Option<Option<ReportedWait>> {
    let Some(node) = rule.take("told") else { return Some(None) };
    let name = rule.key("told");
    let location = node.location.clone();
    let table = rule.reader.as_table(&name, node)?;
    rule.reader.section(&name, table, |told| {
        let help = "write text = \"/error/message\", the path of the text with the wait";
        let text = required_path(told, "text", &location, help);
        let help = "write after = \"Retry after \", the words before the wait";
        let after = told.required("after", EnvValueForm::Toml, &location, help, |node| {
            plain_text(&node.value).map(str::to_owned)
        });
        let names = WaitFormat::ALL.map(WaitFormat::name);
        let help = format!("write one of {}", quoted_names(names));
        let format = told.required("as", EnvValueForm::Toml, &location, &help, |node| {
            let found =
                WaitFormat::ALL.into_iter().find(|known| node.value.text() == Some(known.name()));
            found.ok_or_else(|| format!("is {}; {help}", describe(&node.value)))
        });
        Some(Some(ReportedWait { text: text?, after: after?.0, format: format?.0 }))
    })
}

/// Removes a table from a section. Its absence is an error at `location`.
fn take_table(
    section: &mut Section<'_, '_>,
    key: &'static str,
    location: &Location,
    help: &str,
) -> Option<(Table, Location)> {
    let name = section.key(key);
    let Some(node) = section.take(key) else {
        section.reader.report_error(location.clone(), format!("`{name}` is missing; {help}"));
        return None;
    };
    let location = node.location.clone();
    Some((section.reader.as_table(&name, node)?, location))
}

/// Reads the name of a class. The error states the problem and the remedy.
pub(super) fn read_class(node: &Node) -> Result<Cause, String> {
    let name = plain_text(&node.value)?;
    let by_alias = CLASS_ALIASES.into_iter().find(|(alias, _)| *alias == name);
    let known = RULE_CAUSES.into_iter().find(|cause| cause.name() == name);
    known.or_else(|| by_alias.map(|(_, cause)| cause)).ok_or_else(|| {
        let remedy = match closest_match(name, class_names()) {
            Some(known) => format!("did you mean {}?", quote(known)),
            None => format!("the classes are {}", class_names().join(", ")),
        };
        format!("is {}, which is not a class; {remedy}", quote(name))
    })
}

fn class_names() -> Vec<&'static str> {
    let aliases = CLASS_ALIASES.into_iter().map(|(alias, _)| alias);
    RULE_CAUSES.into_iter().map(Cause::name).chain(aliases).collect()
}

fn read_table_names(node: &Node) -> Result<Vec<TableName>, String> {
    match &node.value {
        Value::List(items) if !items.is_empty() => items.iter().map(read_table_name).collect(),
        Value::Text(_)
        | Value::Integer(_)
        | Value::Float(_)
        | Value::Flag(_)
        | Value::Date(_)
        | Value::Table(_)
        | Value::List(_) => Ok(vec![read_table_name(node)?]),
    }
}

/// Reads the name of a table whose requests are sent.
fn read_table_name(node: &Node) -> Result<TableName, String> {
    let names = TableName::ALL.map(TableName::name);
    let text = node.value.text().unwrap_or_default();
    let found = TableName::ALL.into_iter().find(|table| table.name() == text);
    found.ok_or_else(|| match closest_match(text, names) {
        Some(known) => format!("is {}; did you mean {}?", describe(&node.value), quote(known)),
        None => {
            let names = quoted_names(names);
            format!("is {}; write the name of a table: {names}", describe(&node.value))
        }
    })
}
