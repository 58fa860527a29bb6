//! Request for one document: `[fetch]`, and the form in which documents are stored.

use cynosure_engine::rest::{FetchBody, FetchTable, TextEncoding};
use cynosure_engine::user_input::Location;

use crate::config::file::{Node, Value, describe, expected, plain_text};
use crate::config::kind::document_format::MESSAGE_EXTENSION;
use crate::config::kind::rest::errors::read_class;
use crate::config::kind::rest::request::{has_request, read_request};
use crate::config::kind::rest::scope::TemplateScope;
use crate::config::kind::rest::values::{optional_paths, required_path};
use crate::config::merge::EnvValueForm;
use crate::config::reader::Section;
use crate::config::show::quote;

/// Extension of files with JSON.
const JSON_EXTENSION: &str = "json";

const BODY_HELP: &str = "write \"bytes\", \"json\", \"row\", or { at = \"/raw\", decode = \
                         \"base64url\" } for a text in JSON";

const ENCODINGS: [(&str, TextEncoding); 3] = [
    ("base64", TextEncoding::Base64),
    ("base64url", TextEncoding::Base64Url),
    ("text", TextEncoding::Plain),
];

/// Returns the rules for documents that are the rows of their list, and their extension.
pub(super) fn row_fetch() -> (FetchTable, String) {
    let fetch = FetchTable {
        request: None,
        body: FetchBody::Row,
        empty: None,
        media_types: Vec::new(),
        must_start_with_header: false,
        folder: Vec::new(),
    };
    (fetch, JSON_EXTENSION.to_owned())
}

/// Reads `[fetch]`, with the extension of the files. Returns `None` if it is invalid; the error is
/// then recorded.
pub(super) fn read_fetch(
    section: &mut Section<'_, '_>,
    location: &Location,
    scope: &TemplateScope<'_>,
) -> Option<(FetchTable, String)> {
    let body = read_body(section);
    let empty = section.given("empty", EnvValueForm::Toml, read_class).map(|(cause, _)| cause);
    let media_types = section.given("type", EnvValueForm::Toml, read_media_types);
    let media_types = media_types.map(|(types, _)| types).unwrap_or_default();
    let must_start_with_header = section.given("starts", EnvValueForm::Toml, |node| {
        let is_known = node.value.text() == Some("rfc5322");
        is_known.then_some(()).ok_or_else(|| expected(&node.value, "\"rfc5322\""))
    });
    let folder = optional_paths(section, "folder");
    let default_extension = match &body {
        Some(FetchBody::Json | FetchBody::Row) => JSON_EXTENSION,
        Some(FetchBody::Bytes | FetchBody::Text { .. }) | None => MESSAGE_EXTENSION,
    };
    let extension = section.text("extension", default_extension, check_extension);
    let is_row = body == Some(FetchBody::Row);
    let request = if is_row && !has_request(section) {
        Some(None)
    } else {
        read_request(section, location, scope).map(Some)
    };
    let fetch = FetchTable {
        request: request?,
        body: body?,
        empty,
        media_types,
        must_start_with_header: must_start_with_header.is_some(),
        folder,
    };
    check_body(section, location, &fetch)?;
    Some((fetch, extension))
}

/// Reports keys that contradict the place of the document.
fn check_body(
    section: &mut Section<'_, '_>,
    location: &Location,
    fetch: &FetchTable,
) -> Option<()> {
    let is_bytes = fetch.body == FetchBody::Bytes;
    let is_text = matches!(fetch.body, FetchBody::Text { .. });
    let problems = [
        (
            fetch.body == FetchBody::Row && fetch.request.is_some(),
            "get",
            "requests a document that is the row of the list; remove it, or write another `body`",
        ),
        (
            !is_bytes && !fetch.media_types.is_empty(),
            "type",
            "is the type of a document that is the whole body; remove it, or write body = \"bytes\"",
        ),
        (
            // `[ok]` is not looked for in bytes, so that a refusal would be stored.
            is_bytes && fetch.media_types.iter().any(|media_type| is_json_type(media_type)),
            "type",
            "is a type of JSON; remove it, and write body = \"json\"",
        ),
        (
            !is_bytes && !is_text && fetch.must_start_with_header,
            "starts",
            "is about messages, and the document is JSON; remove it, or write body = \"bytes\"",
        ),
        (
            !is_bytes && !is_text && fetch.empty.is_some(),
            "empty",
            "is about bytes, and JSON is never empty; remove it, or write body = \"bytes\"",
        ),
        (
            matches!(fetch.body, FetchBody::Bytes | FetchBody::Row) && !fetch.folder.is_empty(),
            "folder",
            "is a path in JSON, and the response has none beside the document; write `folder` in \
             the tables that list the documents",
        ),
    ];
    let mut is_valid = true;
    for (_, key, problem) in problems.into_iter().filter(|(is_wrong, ..)| *is_wrong) {
        let message = format!("`{}` {problem}", section.key(key));
        section.reader.report_error(location.clone(), message);
        is_valid = false;
    }
    is_valid.then_some(())
}

/// True for the media types of JSON, in lower case.
fn is_json_type(media_type: &str) -> bool {
    media_type == "application/json" || media_type.ends_with("+json")
}

/// Reads `body`, the bytes of the response by default. Returns `None` if it is invalid.
fn read_body(section: &mut Section<'_, '_>) -> Option<FetchBody> {
    let Some(node) = section.take("body") else { return Some(FetchBody::Bytes) };
    let name = section.key("body");
    match &node.value {
        Value::Table(table) => {
            let (table, location) = (table.clone(), node.location.clone());
            section.reader.section(&name, table, |body| read_text_body(body, &location))
        }
        Value::Text(_)
        | Value::Integer(_)
        | Value::Float(_)
        | Value::Flag(_)
        | Value::Date(_)
        | Value::List(_) => match node.value.text() {
            Some("bytes") => Some(FetchBody::Bytes),
            Some("json") => Some(FetchBody::Json),
            Some("row") => Some(FetchBody::Row),
            Some(_) | None => {
                let message = format!("`{name}` is {}; {BODY_HELP}", describe(&node.value));
                section.reader.report_error(node.location, message);
                None
            }
        },
    }
}

fn read_text_body(body: &mut Section<'_, '_>, location: &Location) -> Option<FetchBody> {
    let help = "write at = \"/raw\", the path of the text";
    let at = required_path(body, "at", location, help);
    let encodings = ENCODINGS.map(|(name, _)| quote(name)).join(", ");
    let remedy = format!("write one of {encodings}");
    let encoding = body.required("decode", EnvValueForm::Toml, location, &remedy, |node| {
        let found = ENCODINGS.into_iter().find(|(name, _)| node.value.text() == Some(*name));
        let found = found.map(|(_, encoding)| encoding);
        found.ok_or_else(|| format!("is {}; {remedy}", describe(&node.value)))
    });
    let at = at?;
    // The text is decoded while it arrives, so that only one value can be meant.
    if at.has_star() || at.parts().next().is_none() {
        let message = format!(
            "`{}` is {}, but the text of a document is one value: write a path without * such as \
             \"/raw\"",
            body.key("at"),
            quote(at.as_str())
        );
        body.reader.report_error(location.clone(), message);
        return None;
    }
    Some(FetchBody::Text { at, encoding: encoding?.0 })
}

fn read_media_types(node: &Node) -> Result<Vec<String>, String> {
    let types = match &node.value {
        Value::List(items) => items.iter().map(read_media_type).collect::<Result<Vec<_>, _>>()?,
        Value::Text(_)
        | Value::Integer(_)
        | Value::Float(_)
        | Value::Flag(_)
        | Value::Date(_)
        | Value::Table(_) => vec![read_media_type(node)?],
    };
    if types.is_empty() {
        return Err("is an empty list; write type = \"message/rfc822\", or leave it out".to_owned());
    }
    Ok(types)
}

/// Reads a media type, in lower case.
pub(super) fn read_media_type(node: &Node) -> Result<String, String> {
    let text = plain_text(&node.value)?.to_ascii_lowercase();
    let is_type = text.split_once('/').is_some_and(|(kind, subtype)| {
        !kind.is_empty() && !subtype.is_empty() && !text.contains([' ', ';', ','])
    });
    if is_type {
        return Ok(text);
    }
    Err(format!("is {}; write a media type such as \"message/rfc822\"", quote(&text)))
}

fn check_extension(text: &str) -> Result<(), String> {
    let is_allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    if (1..=8).contains(&text.len()) && text.bytes().all(is_allowed) {
        return Ok(());
    }
    Err(format!("is {}; write 1 to 8 of a-z and 0-9, without a dot, such as \"eml\"", quote(text)))
}

/// True if the documents are JSON, which is one line.
pub(super) fn is_json(fetch: &FetchTable) -> bool {
    match fetch.body {
        FetchBody::Json | FetchBody::Row => true,
        FetchBody::Bytes | FetchBody::Text { .. } => false,
    }
}
