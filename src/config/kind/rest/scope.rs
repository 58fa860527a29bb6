//! Texts with placeholders, and the values that each table of a profile has for them.

use std::collections::BTreeMap;

use cynosure_engine::rest::{Placeholder, Template};
use cynosure_engine::user_input::closest_match;

use crate::config::file::{Node, Value, expected};

/// Longest text of a profile, in bytes. The longest are lists of the fields to return.
const TEMPLATE_BYTES_MAX: usize = 8192;

/// Names of parameters, headers and options, in lower case, without `-`, `_` and a leading `x`,
/// whose fixed value would be a secret in the configuration.
const SECRET_NAMES: [&str; 11] = [
    "accesskey",
    "accesstoken",
    "apikey",
    "apitoken",
    "authtoken",
    "bearertoken",
    "clientsecret",
    "password",
    "privatetoken",
    "secret",
    "token",
];

/// Values that the texts of a table may use, beside `{account}`.
#[derive(Clone, Debug)]
pub(super) struct TemplateScope<'a> {
    pub(super) options: &'a BTreeMap<String, Template>,
    /// True if the credential is a session, which has fields.
    pub(super) has_session: bool,
    /// Values that only this table has.
    pub(super) values: Vec<Placeholder>,
}

impl TemplateScope<'_> {
    /// Returns the scope of a table with more values.
    pub(super) fn with(&self, values: impl IntoIterator<Item = Placeholder>) -> Self {
        let values = self.values.iter().cloned().chain(values).collect();
        Self { values, options: self.options, has_session: self.has_session }
    }

    /// Reads a text, a number or a flag as a template. The error states the problem and the remedy.
    pub(super) fn read(&self, node: &Node) -> Result<Template, String> {
        let template = read_template(node)?;
        self.check(&template)?;
        Ok(template)
    }

    /// Checks that every placeholder has a value. The error states the problem and the remedy.
    pub(super) fn check(&self, template: &Template) -> Result<(), String> {
        template.placeholders().try_for_each(|placeholder| self.check_placeholder(placeholder))
    }

    fn check_placeholder(&self, placeholder: &Placeholder) -> Result<(), String> {
        let is_field = |other: &Placeholder| matches!(other, Placeholder::Credential(_));
        match placeholder {
            Placeholder::Account => Ok(()),
            Placeholder::Option(name) => match self.options.get(name) {
                Some(option) if option.placeholders().any(is_field) && !self.has_session => {
                    Err(format!("uses {placeholder}, which is {}", needs_session(option.as_str())))
                }
                Some(_) => Ok(()),
                None => Err(self.unknown_option(name)),
            },
            Placeholder::Credential(_) if self.has_session => Ok(()),
            Placeholder::Credential(_) => {
                Err(format!("uses {}", needs_session(&placeholder.to_string())))
            }
            Placeholder::Kept(name) if !self.values.contains(placeholder) => Err(format!(
                "uses {placeholder}, which is not kept with every document; add keep = {{ {name} = \
                 \"/path\" }} to [documents], or to [list], [changes] and [sweep]"
            )),
            Placeholder::Part
            | Placeholder::Item
            | Placeholder::Document
            | Placeholder::Kept(_)
            | Placeholder::PageOffset
            | Placeholder::PageNumber
            | Placeholder::Cursor => {
                if self.values.contains(placeholder) {
                    return Ok(());
                }
                Err(format!("uses {placeholder}, which has no value here; {}", self.known_values()))
            }
        }
    }

    fn unknown_option(&self, name: &str) -> String {
        let remedy = match closest_match(name, self.options.keys().map(String::as_str)) {
            Some(known) => format!("did you mean {{options.{known}}}?"),
            None => format!("add it: options = {{ {name} = \"…\" }}"),
        };
        format!("uses {{options.{name}}}, and there is no such option; {remedy}")
    }

    fn known_values(&self) -> String {
        let mut values: Vec<String> = self.values.iter().map(ToString::to_string).collect();
        values.push("{account}".to_owned());
        values.extend(self.options.keys().map(|name| format!("{{options.{name}}}")));
        format!("the values here are {}", values.join(", "))
    }
}

/// Reads a text, a number or a flag as a template, whose placeholders are not checked.
pub(super) fn read_template(node: &Node) -> Result<Template, String> {
    match &node.value {
        Value::Text(text) => {
            check_text(text)?;
            Template::parse(text).map_err(|error| format!("is not valid: {error}"))
        }
        Value::Integer(number) => Ok(Template::literal(number.to_string())),
        Value::Float(number) => Ok(Template::literal(number.to_string())),
        Value::Flag(flag) => Ok(Template::literal(flag.to_string())),
        Value::Date(date) => Ok(Template::literal(date.clone())),
        Value::List(_) | Value::Table(_) => {
            Err(expected(&node.value, "a text in quotes, a number, true or false"))
        }
    }
}

/// Checks the length of a text, and that it has no control characters.
pub(super) fn check_text(text: &str) -> Result<(), String> {
    if text.chars().any(char::is_control) {
        return Err("holds a line break or another control character; remove it".to_owned());
    }
    if TEMPLATE_BYTES_MAX < text.len() {
        return Err(format!("is longer than {TEMPLATE_BYTES_MAX} bytes; shorten it"));
    }
    Ok(())
}

/// Checks a name that stands in placeholders.
pub(super) fn check_name(name: &str) -> Result<(), String> {
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    if !name.is_empty() && name.chars().all(is_allowed) {
        return Ok(());
    }
    Err("has a name that no text can use; write it in letters, digits, - and _".to_owned())
}

/// Reports a fixed text under a name of secrets, because the configuration is shown and shared. The
/// error does not quote it.
pub(super) fn check_no_secret(name: &str, template: &Template) -> Result<(), String> {
    let letters: String = name.chars().filter(char::is_ascii_alphanumeric).collect();
    let letters = letters.to_ascii_lowercase();
    let is_secret_name = SECRET_NAMES.contains(&letters.trim_start_matches('x'));
    if !is_secret_name || literal_text(template).is_none_or(str::is_empty) {
        return Ok(());
    }
    Err("looks like a secret, which is never written in the configuration; write auth = { type = \
         \"header\", name = \"NAME\", value = { file = \"FILE\" } }, or type = \"query\" for a \
         parameter"
        .to_owned())
}

/// Returns the text of a template without placeholders.
pub(super) fn literal_text(template: &Template) -> Option<&str> {
    template.placeholders().next().is_none().then(|| template.as_str())
}

fn needs_session(text: &str) -> String {
    format!("{text}, a field of a session, but `auth` is of another type than \"session\"")
}
