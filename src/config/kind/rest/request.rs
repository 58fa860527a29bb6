//! Request of a table: `get` or `post`, `query`, and `form` or `json`.

use cynosure_engine::rest::{
    JsonTemplate, Placeholder, RequestBodyTemplate, RequestTemplate, RestMethod, Template,
};
use cynosure_engine::user_input::Location;

use crate::config::file::{Node, Value, expected};
use crate::config::http_auth::is_token;
use crate::config::kind::rest::scope::{TemplateScope, check_no_secret, literal_text};
use crate::config::kind::rest::values::read_map;
use crate::config::reader::Section;
use crate::config::show::quote;

const PATH_HELP: &str = "write the path below base_url, such as \"/messages\"";

/// Headers of a login.
const LOGIN_HEADERS: [&str; 4] = ["authorization", "cookie", "proxy-authorization", "x-api-key"];

/// Headers that follow from the connection and the body.
const RESERVED_HEADERS: [&str; 6] =
    ["connection", "content-length", "content-type", "host", "te", "transfer-encoding"];

/// True if a table has a request.
pub(super) fn has_request(section: &Section<'_, '_>) -> bool {
    section.contains("get") || section.contains("post")
}

/// Reads the request of a table, which is required. Returns `None` if it is missing or invalid; the
/// error is then recorded.
pub(super) fn read_request(
    section: &mut Section<'_, '_>,
    location: &Location,
    scope: &TemplateScope<'_>,
) -> Option<RequestTemplate> {
    let target = read_target(section, location, scope);
    let query = read_parameters(section, "query", scope);
    let body = read_body(section, scope);
    let (method, target, target_location) = target?;
    let body = body?;
    if method == RestMethod::Get && body != RequestBodyTemplate::None {
        let message = format!(
            "`{}` has a body, which only `post` sends; write post in place of get",
            section.key("get")
        );
        section.reader.report_error(target_location, message);
        return None;
    }
    Some(RequestTemplate { method, target, query, body })
}

fn read_target(
    section: &mut Section<'_, '_>,
    location: &Location,
    scope: &TemplateScope<'_>,
) -> Option<(RestMethod, Template, Location)> {
    let (key, method, node) = match (section.take("get"), section.take("post")) {
        (Some(node), None) => ("get", RestMethod::Get, node),
        (None, Some(node)) => ("post", RestMethod::Post, node),
        (Some(_), Some(node)) => {
            let message = format!("`{}` stands beside `get`; remove one", section.key("post"));
            section.reader.report_error(node.location, message);
            return None;
        }
        (None, None) => {
            let message = format!("`{}` is missing; {PATH_HELP}", section.key("get"));
            section.reader.report_error(location.clone(), message);
            return None;
        }
    };
    let target = if node.value.text().is_some() {
        scope.read(&node).and_then(|target| check_target(&target, scope).map(|()| target))
    } else {
        Err(expected(&node.value, "the path below base_url, such as \"/messages\""))
    };
    match target {
        Ok(target) => Some((method, target, node.location)),
        Err(error) => {
            let message = format!("`{}` {error}", section.key(key));
            section.reader.report_error(node.location, message);
            None
        }
    }
}

/// Checks that a target is a path, or a cursor.
fn check_target(target: &Template, scope: &TemplateScope<'_>) -> Result<(), String> {
    let text = target.as_str();
    // Without a path, the request is for the base URL itself.
    if text.is_empty() || target.is_only(&Placeholder::Cursor) {
        return Ok(());
    }
    // An option may be a path, too, such as one that is not known for sure.
    let first = target.placeholders().next().filter(|first| text.starts_with(&first.to_string()));
    let option = match first {
        Some(Placeholder::Option(name)) => scope.options.get(name).and_then(literal_text),
        Some(_) | None => None,
    };
    if !option.unwrap_or(text).starts_with('/') {
        let value = option.map(|value| format!(", with the value {}", quote(value)));
        return Err(format!(
            "is {}{}, which does not begin with /; {PATH_HELP}",
            quote(text),
            value.unwrap_or_default()
        ));
    }
    if text.contains(['?', '#']) {
        return Err(format!(
            "is {}, with a ? or a #; {PATH_HELP}, and the parameters into `query`",
            quote(text)
        ));
    }
    Ok(())
}

/// Reads a table of parameters. A list of values is a parameter for each.
pub(super) fn read_parameters(
    section: &mut Section<'_, '_>,
    key: &'static str,
    scope: &TemplateScope<'_>,
) -> Vec<(String, Template)> {
    let parameters = read_map(section, key, |name, node| {
        let values = match &node.value {
            Value::List(items) => {
                items.iter().map(|item| scope.read(item)).collect::<Result<Vec<_>, _>>()?
            }
            Value::Text(_)
            | Value::Integer(_)
            | Value::Float(_)
            | Value::Flag(_)
            | Value::Date(_)
            | Value::Table(_) => vec![scope.read(node)?],
        };
        values.iter().try_for_each(|value| check_no_secret(name, value))?;
        Ok(values)
    });
    let each = |(name, values): (String, Vec<Template>)| {
        values.into_iter().map(move |value| (name.clone(), value)).collect::<Vec<_>>()
    };
    parameters.into_iter().flat_map(each).collect()
}

/// Reads a table of headers.
pub(super) fn read_headers(
    section: &mut Section<'_, '_>,
    scope: &TemplateScope<'_>,
) -> Vec<(String, Template)> {
    read_map(section, "headers", |name, node| {
        if !is_token(name) {
            return Err("is not the name of a header; correct it".to_owned());
        }
        let lower = name.to_ascii_lowercase();
        if LOGIN_HEADERS.contains(&lower.as_str()) {
            return Err(
                "is a header of the login, which belongs to `auth`; write auth = { type = \
                        \"header\", name = \"X-Api-Key\", value = { file = \"FILE\" } }"
                    .to_owned(),
            );
        }
        if RESERVED_HEADERS.contains(&lower.as_str()) {
            return Err("is a header that is always sent as it has to be; remove it".to_owned());
        }
        let value = scope.read(node)?;
        check_no_secret(name, &value)?;
        Ok(value)
    })
}

/// Reads `form` or `json`. Returns `None` if the body is invalid; the error is then recorded.
fn read_body(
    section: &mut Section<'_, '_>,
    scope: &TemplateScope<'_>,
) -> Option<RequestBodyTemplate> {
    let errors_before = section.reader.diagnostics.len();
    let has_form = section.contains("form");
    let form = read_parameters(section, "form", scope);
    let body = match section.take("json") {
        None if has_form => RequestBodyTemplate::Form(form),
        None => RequestBodyTemplate::None,
        Some(node) if has_form => {
            let message = format!("`{}` stands beside `form`; remove one", section.key("json"));
            section.reader.report_error(node.location, message);
            return None;
        }
        Some(node) => match read_json(&node, scope) {
            Ok(json) => RequestBodyTemplate::Json(json),
            Err(error) => {
                let message = format!("`{}` {error}", section.key("json"));
                section.reader.report_error(node.location, message);
                return None;
            }
        },
    };
    (section.reader.diagnostics.len() == errors_before).then_some(body)
}

/// Reads JSON, whose texts are templates.
fn read_json(node: &Node, scope: &TemplateScope<'_>) -> Result<JsonTemplate, String> {
    match &node.value {
        Value::Text(_) => Ok(JsonTemplate::Text(scope.read(node)?)),
        Value::Date(date) => Ok(JsonTemplate::Literal(date.as_str().into())),
        Value::Integer(number) => Ok(JsonTemplate::Literal((*number).into())),
        Value::Float(number) => Ok(JsonTemplate::Literal((*number).into())),
        Value::Flag(flag) => Ok(JsonTemplate::Literal((*flag).into())),
        Value::List(items) => {
            let items = items.iter().map(|item| read_json(item, scope));
            Ok(JsonTemplate::List(items.collect::<Result<_, _>>()?))
        }
        Value::Table(table) => {
            let member = |(name, node): (&String, &Node)| {
                let value = read_json(node, scope)?;
                if let JsonTemplate::Text(text) = &value {
                    check_no_secret(name, text)
                        .map_err(|error| format!("has a {} that {error}", quote(name)))?;
                }
                Ok((name.clone(), value))
            };
            Ok(JsonTemplate::Object(table.iter().map(member).collect::<Result<_, String>>()?))
        }
    }
}
