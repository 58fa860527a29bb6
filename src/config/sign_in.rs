//! Keys in `auth` of a sign-in with OAuth 2.0. Errors never quote a value, because it may be a
//! secret that was put into the wrong place.

use url::Url;

use super::file::{Table, Value, plain_text};
use super::preset::Preset;
use super::provider_defaults::DefaultsOrigin;
use super::service_url::{is_plaintext_remote, parse_url, without_query};
use super::show::{quote, quote_list};
use super::source_auth::OAuthSettings;

/// Keys that only a sign-in has. It also has `username` and `token`.
pub(super) const SIGN_IN_KEYS: [&str; 6] =
    ["client_id", "client_secret", "authorize_url", "token_url", "device_url", "scopes"];

const URL_KEYS: [&str; 3] = ["authorize_url", "token_url", "device_url"];

/// Example of a valid endpoint, for error messages.
const ENDPOINT_EXAMPLE: &str = "https://auth.example.com/token";

const SCOPES_HELP: &str =
    "write scopes = [\"mail.read\", \"offline_access\"], each scope on its own";

/// Longest scope, in bytes: none has as many, and all of them are part of a URL.
const SCOPE_BYTES_MAX: usize = 256;

/// Endpoints and permissions that a preset or a profile has for a sign-in. They fill what `auth`
/// leaves out.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct SignInDefaults {
    pub(super) origin: DefaultsOrigin,
    pub(super) authorize_url: Option<Url>,
    pub(super) token_url: Option<Url>,
    pub(super) device_url: Option<Url>,
    pub(super) scopes: Vec<String>,
    /// Permissions of an application without a user; those of a user if empty.
    pub(super) application_scopes: Vec<String>,
}

/// Endpoints of a provider, and the permissions to ask for.
#[derive(Debug)]
pub(super) struct SignInEndpoints {
    /// `None` only if there is a `device_url`.
    pub(super) authorize_url: Option<Url>,
    pub(super) token_url: Url,
    pub(super) device_url: Option<Url>,
    pub(super) scopes: Vec<String>,
}

impl SignInDefaults {
    /// Returns the defaults that a preset has. `None` without a sign-in.
    pub(super) fn from_preset(preset: &Preset) -> Option<Self> {
        let sign_in = preset.sign_in.as_ref()?;
        let owned = |scopes: &[&str]| -> Vec<String> {
            scopes.iter().map(|scope| (*scope).to_owned()).collect()
        };
        Some(Self {
            origin: DefaultsOrigin::preset(preset.name),
            authorize_url: Url::parse(sign_in.authorize_url).ok(),
            token_url: Url::parse(sign_in.token_url).ok(),
            device_url: sign_in.device_url.and_then(|url| Url::parse(url).ok()),
            scopes: owned(sign_in.scopes),
            application_scopes: owned(sign_in.application_scopes),
        })
    }
}

/// Reads endpoints and scopes; `defaults` gives those that are left out. The error states the
/// problem and the remedy.
pub(super) fn read_endpoints(
    table: &Table,
    defaults: Option<&SignInDefaults>,
) -> Result<SignInEndpoints, String> {
    // The endpoints belong together: the codes and tokens of one server are for that server only.
    let [authorize_url, token_url, device_url] = match defaults.filter(|_| !has_urls(table)) {
        Some(defaults) => [
            defaults.authorize_url.clone(),
            defaults.token_url.clone(),
            defaults.device_url.clone(),
        ],
        None => [
            read_url(table, "authorize_url")?,
            read_url(table, "token_url")?,
            read_url(table, "device_url")?,
        ],
    };
    let scopes = match (read_scopes(table, "scopes")?, defaults) {
        (Some(scopes), _) => scopes,
        (None, Some(defaults)) => defaults.scopes.clone(),
        (None, None) => Vec::new(),
    };
    let has_start = authorize_url.is_some() || device_url.is_some();
    match token_url {
        Some(token_url) if has_start => {
            Ok(SignInEndpoints { authorize_url, token_url, device_url, scopes })
        }
        Some(_) => Err(missing_urls_error("`authorize_url`", defaults)),
        None if has_start => Err(missing_urls_error("`token_url`", defaults)),
        None => Err(missing_urls_error("`authorize_url` and no `token_url`", defaults)),
    }
}

/// Reads the endpoint and the scopes of an application without a user; `defaults` gives those that
/// are left out. The error states the problem and the remedy.
pub(super) fn read_token_endpoint(
    table: &Table,
    defaults: Option<&SignInDefaults>,
) -> Result<(Option<Url>, Vec<String>), String> {
    let written = read_url(table, "token_url")?;
    let token_url = written.or_else(|| defaults.and_then(|defaults| defaults.token_url.clone()));
    let scopes = match (read_scopes(table, "scopes")?, defaults) {
        (Some(scopes), _) => scopes,
        (None, Some(defaults)) if defaults.application_scopes.is_empty() => defaults.scopes.clone(),
        (None, Some(defaults)) => defaults.application_scopes.clone(),
        (None, None) => Vec::new(),
    };
    Ok((token_url, scopes))
}

/// True if the defaults of a sign-in fill some of the keys.
pub(super) fn needs_defaults(table: &Table) -> bool {
    !has_urls(table) || !table.contains_key("scopes")
}

/// Writes endpoints and scopes as entries of a TOML table, without its braces.
pub(super) fn write_endpoints(client: &OAuthSettings) -> String {
    let urls = [
        ("authorize_url", client.authorize_url.as_ref()),
        ("token_url", Some(&client.token_url)),
        ("device_url", client.device_url.as_ref()),
    ];
    let mut entries: Vec<String> = urls
        .into_iter()
        .filter_map(|(key, url)| Some(format!("{key} = {}", quote(&without_query(url?)))))
        .collect();
    entries.push(format!("scopes = {}", quote_list(&client.scopes)));
    entries.join(", ")
}

fn has_urls(table: &Table) -> bool {
    URL_KEYS.into_iter().any(|key| table.contains_key(key))
}

fn missing_urls_error(missing: &str, defaults: Option<&SignInDefaults>) -> String {
    let remedy = match defaults.filter(|defaults| defaults.token_url.is_some()) {
        Some(defaults) => {
            let noun = defaults.origin.noun;
            format!("write both, or no address at all, as a {noun} has them")
        }
        None => format!(
            "write the addresses that your mail provider documents for OAuth 2.0, such as \
             token_url = {}",
            quote(ENDPOINT_EXAMPLE)
        ),
    };
    format!("has a `client_id`, but no {missing}; {remedy}")
}

/// Reads the address of an endpoint.
pub(super) fn read_url(table: &Table, key: &str) -> Result<Option<Url>, String> {
    let Some(node) = table.get(key) else { return Ok(None) };
    if node.value.text().is_none() {
        return Err(format!("has a `{key}` that is not a text; write one in quotes"));
    }
    let url = plain_text(&node.value)
        .and_then(|text| parse_url(text, ENDPOINT_EXAMPLE))
        .map_err(|error| format!("has a `{key}` that {error}"))?;
    if is_plaintext_remote(&url) {
        return Err(format!(
            "has a `{key}` that is plain http, so tokens could be read on the way; write https://"
        ));
    }
    Ok(Some(url))
}

/// Reads a list of scopes.
pub(super) fn read_scopes(table: &Table, key: &str) -> Result<Option<Vec<String>>, String> {
    let Some(node) = table.get(key) else { return Ok(None) };
    let Value::List(items) = &node.value else {
        return Err(format!("has `{key}` that are not a list; {SCOPES_HELP}"));
    };
    let scopes = items
        .iter()
        .map(|item| item.value.text().filter(|text| is_scope(text)).map(str::to_owned))
        .collect::<Option<Vec<_>>>();
    scopes
        .map(Some)
        .ok_or_else(|| format!("has an entry in `{key}` that is not a scope; {SCOPES_HELP}"))
}

/// True for a scope: printable ASCII without space, quote and backslash (RFC 6749, section 3.3).
fn is_scope(text: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_graphic() && !b"\"\\".contains(&byte);
    !text.is_empty() && text.len() <= SCOPE_BYTES_MAX && text.bytes().all(is_allowed)
}
