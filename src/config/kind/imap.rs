//! Keys of `[source.NAME]` that only an IMAP source has.

use std::net::IpAddr;

use chrono::NaiveDate;
use cynosure_engine::is_loopback_host;
use cynosure_engine::user_input::Location;

use crate::config::auth::{AuthRules, read_source_auth};
use crate::config::file::{Node, plain_text};
use crate::config::merge::EnvValueForm;
use crate::config::preset::{self, Preset};
use crate::config::provider_defaults::DefaultsOrigin;
use crate::config::reader::Section;
use crate::config::service_url::check_host;
use crate::config::show::quote;
use crate::config::sign_in::SignInDefaults;
use crate::config::source_auth::{AuthType, SourceAuth};

/// Value of `kind`.
pub(super) const NAME: &str = "imap";

/// Example of a valid `host`, for error messages.
const HOST_EXAMPLE: &str = "imap.example.com";

/// Both valid forms of `auth`.
const AUTH_HELP: &str = "write auth = { type = \"password\", password = { file = \"password\" } } \
                         or auth = { type = \"oauth2\", token = { file = \"token\" } }";

/// Port with TLS from the first byte (RFC 8314, section 3.2).
const IMAPS_PORT: u32 = 993;

/// Port with TLS after STARTTLS, or without (RFC 9051, section 2.1).
const IMAP_PORT: u32 = 143;

const SECURITY_MODES: [(&str, ImapSecurity); 3] = [
    ("tls", ImapSecurity::Tls),
    ("starttls", ImapSecurity::StartTls),
    ("none", ImapSecurity::None),
];

/// Server of an IMAP source, and the mail to extract.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ImapSettings {
    /// Name or address of the server, an IPv6 address without brackets.
    pub host: String,
    pub port: u16,
    /// Not [`ImapSecurity::None`], except to a loopback address, or if `allows_plaintext` is set.
    pub security: ImapSecurity,
    pub allows_plaintext: bool,
    /// The folders to extract, by name or by patterns with `*`; all of them if empty.
    pub folders: Vec<String>,
    /// Folders that are left out, by name or by patterns with `*`.
    pub excluded_folders: Vec<String>,
    /// First day to extract; everything is extracted if `None`.
    pub since: Option<NaiveDate>,
}

/// Encryption of the connections.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ImapSecurity {
    /// TLS from the first byte.
    Tls,
    /// TLS after the STARTTLS command, before the login.
    StartTls,
    /// No encryption.
    None,
}

/// Server of an IMAP source.
#[derive(Debug)]
pub(super) struct ImapServer {
    pub(super) host: String,
    security: ImapSecurity,
    port: u16,
    pub(super) preset: Option<&'static Preset>,
}

/// Reads the account, from whose domain the server may follow.
pub(super) fn read_account(table: &mut Section<'_, '_>, location: &Location) -> Option<String> {
    let remedy = "write account = \"me@example.com\", the mail address of the mailbox";
    let read = |text: &str| Ok(text.to_owned());
    let account = table.required_text("account", location, remedy, read, |text| quote(text));
    account.map(|(account, _)| account)
}

/// Reads the server. Returns `None` without a host, whose error is recorded already.
pub(super) fn read_server(
    table: &mut Section<'_, '_>,
    location: &Location,
    account: Option<&str>,
) -> Option<ImapServer> {
    let host = read_host(table, location, account);
    let security = table.choice("security", "tls", &SECURITY_MODES);
    let default_port = match security {
        ImapSecurity::Tls => IMAPS_PORT,
        ImapSecurity::StartTls | ImapSecurity::None => IMAP_PORT,
    };
    let port = table.count("port", default_port, 1..=u32::from(u16::MAX));
    let host = host?;
    let preset = preset::find_by_host(&host);
    Some(ImapServer { host, security, port: u16::try_from(port).unwrap_or(u16::MAX), preset })
}

fn read_host(
    table: &mut Section<'_, '_>,
    location: &Location,
    account: Option<&str>,
) -> Option<String> {
    if let Some(preset) = account.and_then(preset::find_by_account) {
        let given = table.given("host", EnvValueForm::Text, parse_host_node);
        let host =
            table.given_or_default("host", given, preset.host.to_owned(), |host| quote(host));
        table.record_origin("host", &DefaultsOrigin::preset(preset.name));
        return Some(host);
    }
    let Some(account) = account else {
        // Only a valid account shows whether the host is required, so its absence is not reported.
        let (host, location) = table.given("host", EnvValueForm::Text, parse_host_node).unzip();
        table.record("host", host.as_deref().map(quote), location);
        return host;
    };
    let mut remedy = format!("write host = {}", quote(HOST_EXAMPLE));
    if let Some(domain) = preset::domain_of(account) {
        remedy = format!("no server is known for {}: {remedy}", quote(domain));
    }
    let host = table.required_text("host", location, &remedy, parse_host, |host| quote(host));
    host.map(|(host, _)| host)
}

fn parse_host_node(node: &Node) -> Result<String, String> {
    plain_text(&node.value).and_then(parse_host)
}

fn parse_host(text: &str) -> Result<String, String> {
    let unbracketed = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
    let address = unbracketed.unwrap_or(text);
    if address.parse::<IpAddr>().is_ok() {
        return Ok(address.to_owned());
    }
    check_host(text, HOST_EXAMPLE).map(|()| text.to_owned())
}

/// Reads the authentication. Its user name is the account, unless it has one.
pub(super) fn read_auth(
    table: &mut Section<'_, '_>,
    location: &Location,
    account: Option<&str>,
    preset: Option<&Preset>,
) -> Option<SourceAuth> {
    let sign_in = preset.and_then(SignInDefaults::from_preset);
    let rules = AuthRules {
        kind: NAME,
        types: &[
            AuthType::Password,
            AuthType::OAuth2,
            AuthType::ServiceAccount,
            AuthType::ClientCredentials,
        ],
        help: AUTH_HELP,
        default_username: account.unwrap_or_default(),
        sign_in: sign_in.as_ref(),
    };
    let auth = read_source_auth(table, location, rules)?;
    if let (SourceAuth::Password { .. }, Some(preset)) = (&auth, preset)
        && !preset.accepts_passwords
    {
        let message = format!(
            "`{}` is a password, which {} rejects because basic authentication is off there; \
             write auth = {{ type = \"oauth2\", client_id = \"CLIENT-ID\" }} and sign in with \
             `cynosure auth`",
            table.key("auth"),
            preset.host
        );
        table.report_setting("auth", message);
    }
    Some(auth)
}

/// Reads the other keys. Returns `None` without a server, whose error is recorded already.
pub(super) fn read_rest(
    table: &mut Section<'_, '_>,
    server: Option<ImapServer>,
) -> Option<ImapSettings> {
    let folders = table.texts("folders", |_| Ok(()));
    let excluded_folders = table.texts("exclude", |_| Ok(()));
    let since = table.date("since");
    let allows_plaintext = table.flag("allow_plaintext", false);

    let ImapServer { host, security, port, .. } = server?;
    if security == ImapSecurity::None && !allows_plaintext && !is_loopback_host(&host) {
        let message = format!(
            "`{}` is \"none\", so password and mail could be read on the way to {host}; write \
             \"tls\" or \"starttls\", or set allow_plaintext = true in this table if the way is \
             safe",
            table.key("security")
        );
        table.report_setting("security", message);
    }
    Some(ImapSettings { host, port, security, allows_plaintext, folders, excluded_folders, since })
}
