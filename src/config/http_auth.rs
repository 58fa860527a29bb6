//! Keys in `auth` that only HTTP APIs have. Errors never quote a value, because it may be a secret
//! that was put into the wrong place.

use cynosure_engine::rest::{Placeholder, Template};

use super::file::{Node, Table, Value};
use super::service_url::without_query;
use super::show::{quote, quote_key, quote_list};
use super::source_auth::ApplicationSettings;

const COOKIES_HELP: &str = "write the names of the cookies, such as cookies = [\"session\"]";
const QUERY_HELP: &str = "write query = { token = \"{credential.token}\" }, with a name in the \
                          session for each value";

/// Checks the name of a header. The error states the problem and the remedy.
pub(super) fn check_header_name(name: &str) -> Result<String, String> {
    if is_token(name) {
        return Ok(name.to_owned());
    }
    Err("has a `name` that is not a header name; write one such as name = \"X-Api-Key\"".to_owned())
}

/// True for a token (RFC 9110, section 5.6.2): the name of a header or a cookie.
pub(super) fn is_token(text: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.bytes().all(is_allowed)
}

/// Cookies and query parameters that are sent with the values of a session.
pub(super) type SessionValues = (Vec<String>, Vec<(String, Template)>);

/// Reads the cookies and the query parameters of a session. The error states the problem and the
/// remedy.
pub(super) fn read_session_values(table: &Table) -> Result<SessionValues, String> {
    let cookies = table.get("cookies").map(read_cookies).transpose()?.unwrap_or_default();
    let query = table.get("query").map(read_query).transpose()?.unwrap_or_default();
    if cookies.is_empty() && query.is_empty() {
        return Err(format!(
            "has neither `cookies` nor a `query`, so nothing of the session would be sent; \
             {COOKIES_HELP}, or {QUERY_HELP}"
        ));
    }
    Ok((cookies, query))
}

/// Writes cookies and query parameters as entries of a TOML table, without its braces.
pub(super) fn write_session_values(cookies: &[String], query: &[(String, Template)]) -> String {
    let write = |(name, template): &(String, Template)| {
        format!("{} = {}", quote_key(name), quote(template.as_str()))
    };
    let query: Vec<String> = query.iter().map(write).collect();
    match query.as_slice() {
        [] => format!("cookies = {}", quote_list(cookies)),
        query => format!("cookies = {}, query = {{ {} }}", quote_list(cookies), query.join(", ")),
    }
}

/// Writes the endpoint and the scopes of an application as entries of a TOML table, without its
/// braces.
pub(super) fn write_token_endpoint(client: &ApplicationSettings) -> String {
    let url = client.token_url.as_ref();
    let url = url.map(|url| format!("token_url = {}, ", quote(&without_query(url))));
    format!("{}scopes = {}", url.unwrap_or_default(), quote_list(&client.scopes))
}

fn read_cookies(node: &Node) -> Result<Vec<String>, String> {
    let Value::List(items) = &node.value else {
        return Err(format!("has `cookies` that are not a list; {COOKIES_HELP}"));
    };
    let names = items
        .iter()
        .map(|item| item.value.text().filter(|text| is_token(text)).map(str::to_owned))
        .collect::<Option<Vec<_>>>();
    names.ok_or_else(|| {
        format!("has an entry in `cookies` that is not the name of a cookie; {COOKIES_HELP}")
    })
}

fn read_query(node: &Node) -> Result<Vec<(String, Template)>, String> {
    let Value::Table(table) = &node.value else {
        return Err(format!("has a `query` that is not a table; {QUERY_HELP}"));
    };
    table.iter().map(|(name, node)| Ok((name.clone(), read_query_value(name, node)?))).collect()
}

fn read_query_value(name: &str, node: &Node) -> Result<Template, String> {
    let name = quote_key(name);
    let text = node.value.text();
    let text =
        text.ok_or_else(|| format!("has a `query` whose `{name}` is not a text; {QUERY_HELP}"))?;
    // The error of the template would quote it.
    let template = Template::parse(text).map_err(|_error| {
        format!("has a `query` whose `{name}` has an unknown name in braces; {QUERY_HELP}")
    })?;
    let is_allowed = |placeholder: &Placeholder| {
        matches!(placeholder, Placeholder::Credential(_) | Placeholder::Account)
    };
    if !template.placeholders().all(is_allowed) {
        return Err(format!(
            "has a `query` whose `{name}` uses a value that is neither {{credential.NAME}} nor \
             {{account}}; {QUERY_HELP}"
        ));
    }
    if template.placeholders().next().is_none() {
        return Err(format!(
            "has a `query` whose `{name}` is a fixed text; {QUERY_HELP}, and other parameters \
             into `query` of the source"
        ));
    }
    Ok(template)
}
