//! Paging of a list: `page`.

use std::collections::BTreeMap;

use cynosure_engine::rest::{
    JsonPath, LinkOrigin, PageRule, PageTarget, PageTargetPlace, Paging, Placeholder,
    RequestTemplate, Template,
};
use cynosure_engine::user_input::{Location, closest_match};

use crate::config::file::{Node, Table, Value, expected, plain_text};
use crate::config::kind::rest::nodes::quoted_names;
use crate::config::kind::rest::options::read_count;
use crate::config::kind::rest::values::{read_path, required_path};
use crate::config::merge::EnvValueForm;
use crate::config::reader::Section;
use crate::config::show::quote;

/// Kinds of paging, each with its keys beside `kind` and `may_be_empty`.
const KINDS: &[(&str, &[&str])] = &[
    ("token", &["from", "to"]),
    ("link", &["from"]),
    ("offset", &["size", "overlap", "until", "to"]),
    ("number", &["first", "size", "to"]),
    ("anchor", &["from", "size", "to"]),
];

/// Keys of all kinds.
const KIND_KEYS: [&str; 6] = ["from", "to", "size", "overlap", "until", "first"];

/// Most rows of a page.
const SIZE_MAX: u32 = 1_000_000;

const TOKEN_HELP: &str = "write from = \"/nextPageToken\", the path of the token in the response";
const ANCHOR_HELP: &str = "write from = \"/id\", the path of a value in the last row";
const LINK_HELP: &str =
    "write from = \"/nextLink\", the path of the URL in the response, or from = \"header\"";
const TO_HELP: &str = "write to = \"query.NAME\" for a parameter, or \"form.NAME\" for a field";

/// Returns the value that the texts of a table may use because of its paging. `page` is not read.
pub(super) fn page_value(table: &Table) -> Option<Placeholder> {
    let Value::Table(page) = &table.get("page")?.value else { return None };
    match page.get("kind")?.value.text()? {
        "offset" => Some(Placeholder::PageOffset),
        "number" => Some(Placeholder::PageNumber),
        _ => None,
    }
}

/// Reads `page`, with its location if it is written. Without it, the list is one page. Returns `None`
/// if it is invalid; the error is then recorded.
pub(super) fn read_page(
    section: &mut Section<'_, '_>,
    options: &BTreeMap<String, Template>,
) -> Option<(PageRule, Option<Location>)> {
    let has_form = section.contains("form");
    let Some(node) = section.take("page") else {
        return Some((PageRule { paging: Paging::Single, may_be_empty: false }, None));
    };
    let name = section.key("page");
    let location = node.location.clone();
    let table = section.reader.as_table(&name, node)?;
    section.reader.section(&name, table, |page| {
        let kind = read_kind(page, &location);
        let may_be_empty = page.flag("may_be_empty", false);
        let Some(kind) = kind else {
            // Only a valid kind shows which keys are required.
            page.discard_rest();
            return None;
        };
        reject_other_keys(page, kind);
        let paging = PageReader { page, location: &location, options, has_form }.read(kind)?;
        Some((PageRule { paging, may_be_empty }, Some(location.clone())))
    })
}

/// Reports paging by a value that neither the rule sends nor the request contains. `key` is the
/// dotted name of the rule.
pub(super) fn check_page_use(
    page: &PageRule,
    request: &RequestTemplate,
    key: &str,
) -> Result<(), String> {
    let value = match &page.paging {
        Paging::Offset { to: None, .. } => Placeholder::PageOffset,
        Paging::Number { to: None, .. } => Placeholder::PageNumber,
        Paging::Single
        | Paging::Token { .. }
        | Paging::Link { .. }
        | Paging::Offset { to: Some(_), .. }
        | Paging::Number { to: Some(_), .. }
        | Paging::Anchor { .. } => return Ok(()),
    };
    let templates = request.templates();
    let is_used = |template: &&Template| template.placeholders().any(|found| *found == value);
    if templates.iter().any(is_used) {
        return Ok(());
    }
    Err(format!(
        "`{key}` has no `to`, and no text of the request has {value}, so that every request would \
         be for the first page; {TO_HELP}, or use {value} in a text"
    ))
}

fn read_kind(page: &mut Section<'_, '_>, location: &Location) -> Option<&'static str> {
    let names = KINDS.iter().map(|(name, _)| *name);
    let remedy = format!("write one of {}", quoted_names(names.clone()));
    let kind = page.required("kind", EnvValueForm::Toml, location, &remedy, |node| {
        let text = plain_text(&node.value)?;
        names.clone().find(|name| *name == text).ok_or_else(|| {
            let suggestion = closest_match(text, names.clone())
                .map_or_else(|| remedy.clone(), |name| format!("did you mean {}?", quote(name)));
            format!("is {}; {suggestion}", quote(text))
        })
    });
    kind.map(|(kind, _)| kind)
}

/// Reports the keys that only other kinds have.
fn reject_other_keys(page: &mut Section<'_, '_>, kind: &str) {
    let keys_of = |kind: &str| KINDS.iter().find(|(name, _)| *name == kind).map(|(_, keys)| *keys);
    let own_keys = keys_of(kind).unwrap_or_default();
    for key in KIND_KEYS.into_iter().filter(|key| !own_keys.contains(key)) {
        if !page.contains(key) {
            continue;
        }
        let Some(node) = page.take(key) else { continue };
        let others = KINDS.iter().filter(|(_, keys)| keys.contains(&key)).map(|(name, _)| *name);
        let message = format!(
            "`{}` is not used by kind {}, only by {}; remove it",
            page.key(key),
            quote(kind),
            quoted_names(others)
        );
        page.reader.report_error(node.location, message);
    }
}

/// Reader of the keys of one kind of paging.
struct PageReader<'p, 'r, 'e> {
    page: &'p mut Section<'r, 'e>,
    location: &'p Location,
    options: &'p BTreeMap<String, Template>,
    /// True if the request has a form.
    has_form: bool,
}

impl PageReader<'_, '_, '_> {
    fn read(mut self, kind: &str) -> Option<Paging> {
        match kind {
            "token" => {
                let from = self.read_from(TOKEN_HELP);
                let to = self.required_target();
                Some(Paging::Token { from: from?, to: to? })
            }
            "link" => {
                let from = self.page.required(
                    "from",
                    EnvValueForm::Toml,
                    self.location,
                    LINK_HELP,
                    read_link_origin,
                );
                Some(Paging::Link { from: from?.0 })
            }
            "offset" => self.read_offset(),
            "number" => {
                let first = self.page.count("first", 1, 0..=SIZE_MAX);
                let size = self.size();
                let to = self.target();
                Some(Paging::Number { first, size: size?, to: to? })
            }
            _ => {
                let from = self.read_from(ANCHOR_HELP);
                let size = self.size();
                let to = self.required_target();
                Some(Paging::Anchor { from: from?, size: size?, to: to? })
            }
        }
    }

    fn read_offset(mut self) -> Option<Paging> {
        let size = self.size();
        let overlap = self.page.count("overlap", 0, 0..=SIZE_MAX);
        let needs_two_passes = self.page.given("until", EnvValueForm::Toml, |node| {
            let is_known = node.value.text() == Some("two_passes_agree");
            is_known.then_some(()).ok_or_else(|| expected(&node.value, "\"two_passes_agree\""))
        });
        let to = self.target();
        let Some(size) = size? else {
            let message = format!(
                "`{}` is missing; write the number of rows that a full page has, as the request \
                 has it",
                self.page.key("size")
            );
            self.page.reader.report_error(self.location.clone(), message);
            return None;
        };
        if size <= overlap {
            let message = format!(
                "`{}` is {overlap}, and a page has {size} rows; lower it, or raise `size`, so that \
                 the next page begins after this one",
                self.page.key("overlap")
            );
            self.page.reader.report_error(self.location.clone(), message);
            return None;
        }
        let needs_two_passes = needs_two_passes.is_some();
        Some(Paging::Offset { size, overlap, needs_two_passes, to: to? })
    }

    fn read_from(&mut self, help: &str) -> Option<JsonPath> {
        required_path(self.page, "from", self.location, help)
    }

    /// Reads `size`. The outer option is `None` if it is invalid.
    fn size(&mut self) -> Option<Option<u32>> {
        let errors_before = self.page.reader.diagnostics.len();
        let options = self.options;
        let read = |node: &Node| read_count(node, options, SIZE_MAX);
        let size = self.page.given("size", EnvValueForm::Toml, read);
        let is_valid = self.page.reader.diagnostics.len() == errors_before;
        is_valid.then(|| size.map(|(size, _)| size))
    }

    fn required_target(&mut self) -> Option<PageTarget> {
        let has_form = self.has_form;
        let read = |node: &Node| read_target(node, has_form);
        let to = self.page.required("to", EnvValueForm::Toml, self.location, TO_HELP, read);
        to.map(|(to, _)| to)
    }

    /// Reads `to`. The outer option is `None` if it is invalid.
    fn target(&mut self) -> Option<Option<PageTarget>> {
        let errors_before = self.page.reader.diagnostics.len();
        let has_form = self.has_form;
        let to = self.page.given("to", EnvValueForm::Toml, |node| read_target(node, has_form));
        let is_valid = self.page.reader.diagnostics.len() == errors_before;
        is_valid.then(|| to.map(|(to, _)| to))
    }
}

fn read_link_origin(node: &Node) -> Result<LinkOrigin, String> {
    if node.value.text() == Some("header") {
        return Ok(LinkOrigin::Header);
    }
    read_path(node).map(LinkOrigin::Body)
}

fn read_target(node: &Node, has_form: bool) -> Result<PageTarget, String> {
    let text = plain_text(&node.value)?;
    let (place, name) = match text.split_once('.') {
        Some(("query", name)) => (PageTargetPlace::Query, name),
        Some(("form", name)) if has_form => (PageTargetPlace::Form, name),
        Some(("form", _)) => {
            return Err(format!("is {}, and the request has no `form`; add it", quote(text)));
        }
        Some(_) | None => return Err(format!("is {}; {TO_HELP}", quote(text))),
    };
    if name.is_empty() {
        return Err(format!("is {}; {TO_HELP}", quote(text)));
    }
    Ok(PageTarget { place, name: name.to_owned() })
}
