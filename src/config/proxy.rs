//! `[proxy]`: the pool of outgoing proxies.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use url::Url;

use super::auth::{read_credential, reject_unknown_keys, required_text, write_credential};
use super::credential::CredentialRef;
use super::file::{Node, Table, Value, plain_text};
use super::folder::base_folder;
use super::kind::PlaintextSetting;
use super::merge::EnvValueForm;
use super::ranges::{POSITIVE_COUNT, POSITIVE_DURATION, seconds};
use super::reader::{Reader, Section};
use super::service_url::is_loopback;
use super::show::{quote, quote_key};
use super::source::{SourceName, SourceSettings};

const PROXY_HELP: &str = "write \"http://127.0.0.1:3128\" or \"socks5://127.0.0.1:1080\"";
const LOGIN_HELP: &str = "write { url = \"http://127.0.0.1:3128\", username = \"me\", \
                          password = { file = \"proxy-password\" } }";
const PROXY_KEYS: [&str; 3] = ["url", "username", "password"];

/// Largest user name or password: SOCKS has one byte for the length of each (RFC 1929 §2).
const LOGIN_BYTES_MAX: usize = 255;

/// `[proxy]`: the pool of proxies, and the pause after a proxy has failed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ProxySettings {
    /// Every request goes through one of these. If there are none, requests follow the proxy
    /// variables of the environment; without those, connections are direct.
    pub pool: Vec<PoolProxy>,
    /// Consecutive failures after which a proxy counts as dead.
    pub failure_threshold: u32,
    pub cooldown: Duration,
    /// Never shorter than `cooldown`.
    pub max_cooldown: Duration,
}

/// One proxy of the pool.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PoolProxy {
    /// `http` or `socks5`, a host and an optional port; nothing else.
    pub url: Url,
    /// User name and password.
    pub login: Option<(String, CredentialRef)>,
}

/// Reads `[proxy]`.
pub(super) fn read_proxy(table: &mut Section<'_, '_>) -> ProxySettings {
    let fallback = table.reader.folder.clone();
    let given = table.given("pool", EnvValueForm::Toml, |node| {
        let Value::List(items) = &node.value else {
            // Not quoted: it may hold a password.
            return Err("is not a list; write one such as [\"http://127.0.0.1:3128\"]".to_owned());
        };
        let folder = base_folder(&node.location).unwrap_or(fallback);
        let mut pool = Vec::new();
        let mut errors = Vec::new();
        for (at, item) in items.iter().enumerate() {
            match read_pool_proxy(item, &folder) {
                Ok(proxy) => pool.push(proxy),
                Err(error) => errors.push(format!("has an invalid entry {}: it {error}", at + 1)),
            }
        }
        if errors.is_empty() { Ok(pool) } else { Err(errors.join("; it ")) }
    });
    let pool = table.given_or_default("pool", given, Vec::new(), |pool: &Vec<PoolProxy>| {
        let entries: Vec<String> = pool.iter().map(write_proxy).collect();
        format!("[{}]", entries.join(", "))
    });
    let proxy = ProxySettings {
        pool,
        failure_threshold: table.count("failures", 3, POSITIVE_COUNT),
        cooldown: table.duration("cooldown", seconds(30), POSITIVE_DURATION),
        max_cooldown: table.duration("max_cooldown", seconds(900), POSITIVE_DURATION),
    };
    table.check_order([("cooldown", proxy.cooldown), ("max_cooldown", proxy.max_cooldown)]);
    proxy
}

/// Rejects sources without encryption if a proxy is on another machine: the way to loopback is safe
/// by itself, but not through that proxy.
pub(super) fn reject_plaintext_sources(
    reader: &mut Reader<'_>,
    proxy: &ProxySettings,
    sources: &BTreeMap<SourceName, SourceSettings>,
) {
    let remote_proxy = proxy.pool.iter().find(|proxy| !is_loopback(&proxy.url));
    let Some(remote_proxy) = remote_proxy else { return };
    for (name, source) in sources {
        let Some(PlaintextSetting { key, problem, remedy }) = source.kind.plaintext_setting()
        else {
            continue;
        };
        let table = format!("source.{}", quote_key(name.as_str()));
        let message = format!(
            "`{table}.{key}` {problem}, so password and mail could be read on the way to the proxy \
             {}; {remedy}, or set allow_plaintext = true in this table if the way is safe",
            remote_proxy.url.host_str().unwrap_or_default()
        );
        if let Some(location) = reader.location_of(&table, key) {
            reader.report_error(location, message);
        }
    }
}

fn read_pool_proxy(node: &Node, folder: &Path) -> Result<PoolProxy, String> {
    match &node.value {
        Value::Table(table) => read_proxy_login(table, folder),
        Value::Text(_)
        | Value::Integer(_)
        | Value::Float(_)
        | Value::Flag(_)
        | Value::Date(_)
        | Value::List(_) => {
            let text = plain_text(&node.value)?;
            Ok(PoolProxy { url: parse_proxy_url(text)?, login: None })
        }
    }
}

fn read_proxy_login(table: &Table, folder: &Path) -> Result<PoolProxy, String> {
    reject_unknown_keys(table, &PROXY_KEYS, LOGIN_HELP)?;
    let url = parse_proxy_url(required_text(table, "url")?)?;
    let login = match (table.get("username"), table.get("password")) {
        (None, None) => None,
        (Some(_), Some(password)) => {
            let username = required_text(table, "username")?.to_owned();
            if username.contains(':') || LOGIN_BYTES_MAX < username.len() {
                return Err(format!(
                    "has a `username` with a colon or of more than {LOGIN_BYTES_MAX} bytes, which \
                     proxies do not accept; correct it"
                ));
            }
            let password = read_credential(password, folder)
                .map_err(|error| format!("has a `password` that {error}"))?;
            Some((username, password))
        }
        (Some(_), None) => return Err(format!("has no `password`; {LOGIN_HELP}")),
        (None, Some(_)) => return Err(format!("has no `username`; {LOGIN_HELP}")),
    };
    Ok(PoolProxy { url, login })
}

/// Parses the URL of a proxy. An error never quotes it, because users paste URLs with passwords.
fn parse_proxy_url(text: &str) -> Result<Url, String> {
    let url =
        Url::parse(text).map_err(|error| format!("is not a valid URL ({error}); {PROXY_HELP}"))?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(format!(
            "holds a user name or a password; secrets are never written in the configuration: \
             {LOGIN_HELP}"
        ));
    }
    match url.scheme() {
        "http" | "socks5" => {}
        // With socks5, too, the proxy resolves host names.
        "socks5h" => {
            let message = "is socks5h; write socks5://, which resolves names at the proxy too";
            return Err(message.to_owned());
        }
        _ => return Err(format!("is neither http nor socks5; {PROXY_HELP}")),
    }
    let has_path = !matches!(url.path(), "" | "/");
    let is_bare = !has_path && url.query().is_none() && url.fragment().is_none();
    if url.host_str().is_none_or(str::is_empty) || !is_bare {
        return Err(format!("has no host, or more than a host and a port; {PROXY_HELP}"));
    }
    Ok(url)
}

fn write_proxy(proxy: &PoolProxy) -> String {
    let url = quote(proxy.url.as_str());
    match &proxy.login {
        None => url,
        Some((username, password)) => {
            let [username, password] = [quote(username), write_credential(password)];
            format!("{{ url = {url}, username = {username}, password = {password} }}")
        }
    }
}
