//! `[alert]`: who is told what is amiss, and how.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use url::Url;

use super::ask::plain_text;
use super::auth::{read_credential, write_credential};
use super::build::{POSITIVE_DURATION, seconds};
use super::credential::CredentialRef;
use super::file::{Node, Table, Value};
use super::location::Location;
use super::mail;
use super::merge::Variable;
use super::reader::{Reader, Section};
use super::show::{quote, quote_key};
use super::source::is_plaintext_remote;
use crate::engine::alert::{MailChannel, Severity, WebhookFormat};

const SEVERITIES: [(&str, Severity); 3] =
    [("info", Severity::Info), ("warning", Severity::Warning), ("critical", Severity::Critical)];

const SHAPES: [(&str, WebhookFormat); 3] =
    [("json", WebhookFormat::Json), ("slack", WebhookFormat::Slack), ("ntfy", WebhookFormat::Ntfy)];

/// Longer than this no channel is waited for, so that others have their turn.
const CHANNEL_TIMEOUT: std::ops::RangeInclusive<Duration> =
    Duration::from_millis(1)..=Duration::from_secs(600);

/// Everybody who is told, beside the journal.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct AlertSettings {
    /// What is less severe is told in the journal alone.
    pub severity: Severity,
    /// How long an alert that cannot be delivered is tried again.
    pub expire_after: Duration,
    /// The time for one delivery.
    pub timeout: Duration,
    /// Asked for after each completed session.
    pub ping_url: Option<UrlOrSecret>,
    pub webhooks: BTreeMap<String, WebhookSettings>,
    pub mail: Option<MailChannel<CredentialRef>>,
}

/// Where to: an address that may be known, or the place of one that is itself a secret.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum UrlOrSecret {
    /// https, or http to this machine itself.
    Url(Url),
    Secret(CredentialRef),
}

/// Somebody who is told by HTTP.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct WebhookSettings {
    pub url: UrlOrSecret,
    pub shape: WebhookFormat,
    /// Sent as a bearer token.
    pub token: Option<CredentialRef>,
}

/// Reads `[alert]` and the tables below it.
pub(super) fn read_alert(reader: &mut Reader<'_>) -> AlertSettings {
    let mut table = reader.table("alert");
    let webhooks = table.remove("webhook").and_then(|node| reader.as_table("alert.webhook", node));
    let mail_table = table.remove("mail");
    let alert = reader.section("alert", table, |table| AlertSettings {
        severity: table.choice("severity", "warning", &SEVERITIES),
        expire_after: table.duration("expire", seconds(86_400), POSITIVE_DURATION),
        timeout: table.duration("timeout", seconds(30), CHANNEL_TIMEOUT),
        ping_url: read_ping(table),
        webhooks: BTreeMap::new(),
        mail: None,
    });
    let mail = mail_table.and_then(|node| {
        let place = node.place.clone();
        let table = reader.as_table("alert.mail", node)?;
        reader.section("alert.mail", table, |table| mail::read_mail(table, &place))
    });
    AlertSettings { webhooks: read_webhooks(reader, webhooks.unwrap_or_default()), mail, ..alert }
}

fn read_ping(table: &mut Section<'_, '_>) -> Option<UrlOrSecret> {
    let fallback = table.reader.folder.clone();
    let given = table.given("ping", Variable::Toml, |node| parse_address(node, &fallback));
    let (address, place) = given.unzip();
    table.enter("ping", address.as_ref().map(write_address), place);
    address
}

fn read_webhooks(reader: &mut Reader<'_>, tables: Table) -> BTreeMap<String, WebhookSettings> {
    let mut webhooks = BTreeMap::new();
    for (name, node) in tables {
        let place = node.place.clone();
        let table_name = format!("alert.webhook.{}", quote_key(&name));
        let Some(table) = reader.as_table(&table_name, node) else { continue };
        let read = reader.section(&table_name, table, |table| read_webhook(table, &place));
        webhooks.extend(read.map(|webhook| (name, webhook)));
    }
    webhooks
}

fn read_webhook(table: &mut Section<'_, '_>, place: &Location) -> Option<WebhookSettings> {
    let fallback = table.reader.folder.clone();
    let help = "write url = \"https://ntfy.example.com/alerts\", or url = { file = \"hook-url\" } where it is a secret";
    let url =
        table.required("url", Variable::Toml, place, help, |node| parse_address(node, &fallback));
    if let Some((url, place)) = &url {
        table.enter("url", Some(write_address(url)), Some(place.clone()));
    }
    let shape = table.choice("shape", "json", &SHAPES);
    let token = credential_if_given(table, "token");
    Some(WebhookSettings { url: url?.0, shape, token })
}

pub(super) fn credential_if_given(
    table: &mut Section<'_, '_>,
    key: &'static str,
) -> Option<CredentialRef> {
    let fallback = table.reader.folder.clone();
    let given = table.given(key, Variable::Toml, |node| {
        read_credential(node, &node.place.base_folder().unwrap_or(fallback))
    });
    let (credential, place) = given.unzip();
    table.enter(key, credential.as_ref().map(write_credential), place);
    credential
}

fn parse_address(node: &Node, fallback: &Path) -> Result<UrlOrSecret, String> {
    if let Value::Table(_) = &node.value {
        let folder = node.place.base_folder().unwrap_or_else(|| fallback.to_owned());
        return read_credential(node, &folder).map(UrlOrSecret::Secret);
    }
    let help = "write \"https://…\", or { file = \"PATH\" } where the address is itself a secret";
    // Not quoted: it may be a secret.
    let url =
        Url::parse(plain_text(&node.value)?).map_err(|_error| format!("is no address; {help}"))?;
    if !matches!(url.scheme(), "https" | "http") || url.host().is_none() {
        return Err(format!("is no address of the web; {help}"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("holds a user name or a password; put the whole address into a file, and write { file = \"PATH\" }".to_owned());
    }
    if is_plaintext_remote(&url) {
        return Err(
            "is plain http, so that alerts could be read on the way; write https://".to_owned()
        );
    }
    Ok(UrlOrSecret::Url(url))
}

fn write_address(address: &UrlOrSecret) -> String {
    match address {
        UrlOrSecret::Url(url) => quote(url.as_str()),
        UrlOrSecret::Secret(credential) => write_credential(credential),
    }
}
