//! `[proxy]`: the only ways out, where there are any.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use url::Url;

use super::ask::plain_text;
use super::auth::{read_credential, refuse_unknown_keys, required_text, write_credential};
use super::build::{POSITIVE_COUNT, POSITIVE_DURATION, seconds};
use super::credential::CredentialRef;
use super::file::{Node, Table, Value};
use super::merge::Variable;
use super::reader::{Reader, Section};
use super::show::{quote, quote_key};
use super::source::{SourceName, SourceSettings, is_loopback};

const PROXY_HELP: &str = "write \"http://127.0.0.1:3128\" or \"socks5://127.0.0.1:1080\"";
const LOGIN_HELP: &str = "write { url = \"http://127.0.0.1:3128\", username = \"me\", \
                          password = { file = \"proxy-password\" } }";
const PROXY_KEYS: [&str; 3] = ["url", "username", "password"];

/// RFC 1929 §2: SOCKS has one byte for the length of each.
const LOGIN_BYTES_MAX: usize = 255;

/// `[proxy]`: the proxies, and when one of them is left alone.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ProxySettings {
    /// The only ways out; none, and requests go as the environment says, which mostly is straight on.
    pub pool: Vec<PoolProxy>,
    /// Failures in a row after which a proxy counts as dead.
    pub failure_threshold: u32,
    pub cooldown: Duration,
    /// Never shorter than `cooldown`.
    pub max_cooldown: Duration,
}

/// One proxy of the pool.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PoolProxy {
    /// `http` or `socks5`, a host and perhaps a port; nothing else.
    pub url: Url,
    /// User name and password.
    pub login: Option<(String, CredentialRef)>,
}

/// Reads `[proxy]`.
pub(super) fn read_proxy(table: &mut Section<'_, '_>) -> ProxySettings {
    let fallback = table.reader.folder.clone();
    let given = table.given("pool", Variable::Toml, |node| {
        let Value::List(items) = &node.value else {
            // Not quoted: it may hold a password.
            return Err("is no list; write one such as [\"http://127.0.0.1:3128\"]".to_owned());
        };
        let folder = node.place.base_folder().unwrap_or(fallback);
        let mut pool = Vec::new();
        let mut complaints = Vec::new();
        for (at, item) in items.iter().enumerate() {
            match read_pool_proxy(item, &folder) {
                Ok(proxy) => pool.push(proxy),
                Err(complaint) => {
                    complaints.push(format!("has entry {} that {complaint}", at + 1));
                }
            }
        }
        if complaints.is_empty() { Ok(pool) } else { Err(complaints.join("; it ")) }
    });
    let pool = table.settle("pool", given, Vec::new(), |pool: &Vec<PoolProxy>| {
        let entries: Vec<String> = pool.iter().map(write_proxy).collect();
        format!("[{}]", entries.join(", "))
    });
    let proxy = ProxySettings {
        pool,
        failure_threshold: table.count("failures", 3, POSITIVE_COUNT),
        cooldown: table.duration("cooldown", seconds(30), POSITIVE_DURATION),
        max_cooldown: table.duration("max_cooldown", seconds(900), POSITIVE_DURATION),
    };
    table.in_order([("cooldown", proxy.cooldown), ("max_cooldown", proxy.max_cooldown)]);
    proxy
}

/// Refuses plain http by a proxy elsewhere: what is safe within this machine is not on the way there.
pub(super) fn reject_plaintext_sources(
    reader: &mut Reader<'_>,
    proxy: &ProxySettings,
    sources: &BTreeMap<SourceName, SourceSettings>,
) {
    let Some(elsewhere) = proxy.pool.iter().find(|proxy| !is_loopback(&proxy.url)) else { return };
    for (name, source) in sources {
        if source.url.scheme() != "http" || source.allows_plaintext {
            continue;
        }
        let table = format!("source.{}", quote_key(name.as_str()));
        let what = format!(
            "`{table}.url` is plain http, so password and mail could be read on the way to the proxy {}; \
             write https://, or set allow_plaintext = true in this table if the way is safe",
            elsewhere.url.host_str().unwrap_or_default()
        );
        let entry = reader.entries.iter().find(|entry| entry.table == table && entry.key == "url");
        if let Some(place) = entry.and_then(|entry| entry.location.clone()) {
            reader.refuse(place, what);
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
    refuse_unknown_keys(table, &PROXY_KEYS, LOGIN_HELP)?;
    let url = parse_proxy_url(required_text(table, "url")?)?;
    let login = match (table.get("username"), table.get("password")) {
        (None, None) => None,
        (Some(_), Some(password)) => {
            let username = required_text(table, "username")?.to_owned();
            if username.contains(':') || LOGIN_BYTES_MAX < username.len() {
                return Err(format!(
                    "has a `username` with a colon or of more than {LOGIN_BYTES_MAX} bytes, which proxies cannot take; correct it"
                ));
            }
            let password = read_credential(password, folder)
                .map_err(|complaint| format!("has a `password` that {complaint}"))?;
            Some((username, password))
        }
        (Some(_), None) => return Err(format!("has no `password`; {LOGIN_HELP}")),
        (None, Some(_)) => return Err(format!("has no `username`; {LOGIN_HELP}")),
    };
    Ok(PoolProxy { url, login })
}

/// Reads the address of a proxy; an error never quotes it, since people paste addresses with passwords in them.
fn parse_proxy_url(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|error| format!("is no address ({error}); {PROXY_HELP}"))?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(format!(
            "holds a user name or a password; secrets never stand in the configuration: {LOGIN_HELP}"
        ));
    }
    match url.scheme() {
        "http" | "socks5" => {}
        // The names are looked up at the proxy in any case.
        "socks5h" => {
            return Err("is socks5h, which socks5 means here anyway; write socks5://".to_owned());
        }
        _ => return Err(format!("is neither http nor socks5; {PROXY_HELP}")),
    }
    let bare = matches!(url.path(), "" | "/") && url.query().is_none() && url.fragment().is_none();
    if url.host_str().is_none_or(str::is_empty) || !bare {
        return Err(format!("is more or less than a host and a port; {PROXY_HELP}"));
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
