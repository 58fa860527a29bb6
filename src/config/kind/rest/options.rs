//! Options of a profile, and the values that a source gives them.

use std::collections::BTreeMap;

use cynosure_engine::rest::{PageValues, Placeholder, Template, TemplateForm, TemplateValues};
use cynosure_engine::user_input::closest_match;

use crate::config::file::{Node, Table, Value, describe};
use crate::config::kind::rest::loaded::LoadedProfile;
use crate::config::kind::rest::scope::{
    TemplateScope, check_name, check_no_secret, literal_text, read_template,
};
use crate::config::literal::write_value;
use crate::config::merge::EnvValueForm;
use crate::config::reader::{Reader, Section};
use crate::config::show::{quote, quote_key};

/// Reads the options of the profile with the values of the source. Every error is recorded at its
/// own key.
pub(super) fn read_options(
    section: &mut Section<'_, '_>,
    profile: Option<&mut LoadedProfile>,
) -> BTreeMap<String, Template> {
    let key = section.key("options");
    let given = section.given("options", EnvValueForm::Toml, |node| Ok(node.clone()));
    let (written, location) = given.unzip();
    let written = written.and_then(|node| section.reader.as_table(&key, node)).unwrap_or_default();
    let Some(profile) = profile else { return BTreeMap::new() };
    let node = profile.take("options");
    let mut merged = Table::new();
    let mut options = BTreeMap::new();
    let profile_location = node.as_ref().map(|node| node.location.clone());
    if let Some(known) = node.and_then(|node| section.reader.as_table("options", node)) {
        read_table(section.reader, "options", &known, &mut options);
        merged = known;
    }
    let known: Vec<String> = merged.keys().cloned().collect();
    if profile.origin.is_some() {
        report_unknown(section.reader, &key, &written, &known);
    }
    read_table(section.reader, &key, &written, &mut options);
    merged.extend(written);
    let shown = write_value(&Value::Table(merged));
    match (location, profile_location) {
        (Some(location), None) => section.record("options", Some(shown), Some(location)),
        (Some(location), Some(_)) => {
            section.record("options", Some(shown), Some(location));
            if let Some(origin) = &profile.origin {
                section.record_partial_origin("options", origin.as_defaults().to_string());
            }
        }
        (None, Some(location)) => profile.record(section, "options", shown, &location),
        (None, None) => {}
    }
    options
}

fn report_unknown(reader: &mut Reader<'_>, key: &str, written: &Table, known: &[String]) {
    for (name, node) in written.iter().filter(|(name, _)| !known.contains(name)) {
        let remedy = match closest_match(name, known.iter().map(String::as_str)) {
            Some(known) => format!("did you mean `{known}`?"),
            None if known.is_empty() => "the profile has no options".to_owned(),
            None => format!("the options of the profile are {}", known.join(", ")),
        };
        let message = format!("unknown option `{key}.{}`; {remedy}", quote_key(name));
        reader.report_error(node.location.clone(), message);
    }
}

fn read_table(
    reader: &mut Reader<'_>,
    key: &str,
    table: &Table,
    options: &mut BTreeMap<String, Template>,
) {
    for (name, node) in table {
        match read_option(name, node) {
            Ok(template) => {
                options.insert(name.clone(), template);
            }
            Err(error) => {
                let message = format!("`{key}.{}` {error}", quote_key(name));
                reader.report_error(node.location.clone(), message);
            }
        }
    }
}

fn read_option(name: &str, node: &Node) -> Result<Template, String> {
    check_name(name)?;
    let template = read_template(node)?;
    check_no_secret(name, &template)?;
    let is_allowed = |placeholder: &Placeholder| {
        matches!(placeholder, Placeholder::Credential(_) | Placeholder::Account)
    };
    if let Some(placeholder) = template.placeholders().find(|placeholder| !is_allowed(placeholder))
    {
        return Err(format!(
            "uses {placeholder}, but an option may use only {{account}} and {{credential.NAME}}"
        ));
    }
    Ok(template)
}

/// Fills options into a text that is read once, such as an address. The error states the problem and
/// the remedy.
pub(super) fn fill_options(
    node: &Node,
    options: &BTreeMap<String, Template>,
) -> Result<String, String> {
    let template = read_template(node)?;
    TemplateScope { options, has_session: false, values: Vec::new() }.check(&template)?;
    let is_fixed = |placeholder: &Placeholder| fixed_option(placeholder, options).is_some();
    if let Some(other) = template.placeholders().find(|placeholder| !is_fixed(placeholder)) {
        return Err(format!("uses {other}, but only options with a fixed text are possible here"));
    }
    let values = TemplateValues {
        options,
        credential: None,
        account: "",
        part: None,
        item: None,
        document: None,
        page: PageValues::default(),
        cursor: None,
    };
    template.fill(&values, TemplateForm::Plain)
}

/// Reads a whole number from 1 to `most`, or `{options.NAME}` with one. The error states the problem
/// and the remedy.
pub(super) fn read_count(
    node: &Node,
    options: &BTreeMap<String, Template>,
    most: u32,
) -> Result<u32, String> {
    let want = format!("write a whole number from 1 to {most}");
    let in_range = |number: u32| (1..=most).contains(&number).then_some(number);
    if let Value::Text(text) = &node.value
        && text.contains('{')
    {
        let filled = fill_options(node, options)?;
        return filled.parse().ok().and_then(in_range).ok_or_else(|| {
            format!("is {}, which is {} with the options; {want}", quote(text), quote(&filled))
        });
    }
    let number = node.value.integer().and_then(|number| u32::try_from(number).ok());
    number.and_then(in_range).ok_or_else(|| format!("is {}; {want}", describe(&node.value)))
}

/// Returns the text of an option that has no placeholders.
fn fixed_option<'o>(
    placeholder: &Placeholder,
    options: &'o BTreeMap<String, Template>,
) -> Option<&'o str> {
    let Placeholder::Option(name) = placeholder else { return None };
    options.get(name).and_then(literal_text)
}
