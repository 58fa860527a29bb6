//! `[alert]`: who is told what is amiss, and how.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use url::Url;

use super::ask::plain_text;
use super::auth::{read_credential, write_credential};
use super::build::{SOME_TIME, seconds};
use super::credential::CredentialRef;
use super::file::{Node, Table, Value};
use super::mail;
use super::merge::Variable;
use super::place::Place;
use super::reader::{Reader, Section};
use super::show::{quote, quote_key};
use super::source::is_exposed;
use crate::engine::alert::{MailChannel, Severity, WebhookFormat};

const SEVERITIES: [(&str, Severity); 3] =
    [("info", Severity::Info), ("warning", Severity::Warning), ("critical", Severity::Critical)];

const SHAPES: [(&str, WebhookFormat); 3] =
    [("json", WebhookFormat::Json), ("slack", WebhookFormat::Slack), ("ntfy", WebhookFormat::Ntfy)];

/// Longer than this no channel is waited for, so that others have their turn.
const CHANNEL_TIME: std::ops::RangeInclusive<Duration> =
    Duration::from_millis(1)..=Duration::from_secs(600);

/// Everybody who is told, beside the journal.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Alert {
    /// What is less severe is told in the journal alone.
    pub severity: Severity,
    /// How long an alert that cannot be delivered is tried again.
    pub expire: Duration,
    /// The time for one delivery.
    pub timeout: Duration,
    /// Asked for after each completed session.
    pub ping: Option<Address>,
    pub webhooks: BTreeMap<String, Webhook>,
    pub mail: Option<MailChannel<CredentialRef>>,
}

/// Where to: an address that may be known, or the place of one that is itself a secret.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Address {
    /// https, or http to this machine itself.
    Known(Url),
    Secret(CredentialRef),
}

/// Somebody who is told by HTTP.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Webhook {
    pub url: Address,
    pub shape: WebhookFormat,
    /// Sent as a bearer token.
    pub token: Option<CredentialRef>,
}

/// Reads `[alert]` and the tables below it.
pub(super) fn alert(reader: &mut Reader<'_>) -> Alert {
    let mut table = reader.table("alert");
    let webhooks = table.remove("webhook").and_then(|node| reader.as_table("alert.webhook", node));
    let mail_table = table.remove("mail");
    let alert = reader.section("alert", table, |table| Alert {
        severity: table.choice("severity", "warning", &SEVERITIES),
        expire: table.duration("expire", seconds(86_400), SOME_TIME),
        timeout: table.duration("timeout", seconds(30), CHANNEL_TIME),
        ping: ping(table),
        webhooks: BTreeMap::new(),
        mail: None,
    });
    let mail = mail_table.and_then(|node| {
        let place = node.place.clone();
        let table = reader.as_table("alert.mail", node)?;
        reader.section("alert.mail", table, |table| mail::mail(table, &place))
    });
    Alert { webhooks: self::webhooks(reader, webhooks.unwrap_or_default()), mail, ..alert }
}

fn ping(table: &mut Section<'_, '_>) -> Option<Address> {
    let fallback = table.reader.folder.clone();
    let given = table.given("ping", Variable::Toml, |node| address(node, &fallback));
    let (address, place) = given.unzip();
    table.enter("ping", address.as_ref().map(write_address), place);
    address
}

fn webhooks(reader: &mut Reader<'_>, tables: Table) -> BTreeMap<String, Webhook> {
    let mut webhooks = BTreeMap::new();
    for (name, node) in tables {
        let place = node.place.clone();
        let table_name = format!("alert.webhook.{}", quote_key(&name));
        let Some(table) = reader.as_table(&table_name, node) else { continue };
        let read = reader.section(&table_name, table, |table| webhook(table, &place));
        webhooks.extend(read.map(|webhook| (name, webhook)));
    }
    webhooks
}

fn webhook(table: &mut Section<'_, '_>, place: &Place) -> Option<Webhook> {
    let fallback = table.reader.folder.clone();
    let help = "write url = \"https://ntfy.example.com/alerts\", or url = { file = \"hook-url\" } where it is a secret";
    let url = table.required("url", Variable::Toml, place, help, |node| address(node, &fallback));
    if let Some((url, place)) = &url {
        table.enter("url", Some(write_address(url)), Some(place.clone()));
    }
    let shape = table.choice("shape", "json", &SHAPES);
    let token = credential(table, "token");
    Some(Webhook { url: url?.0, shape, token })
}

pub(super) fn credential(table: &mut Section<'_, '_>, key: &'static str) -> Option<CredentialRef> {
    let fallback = table.reader.folder.clone();
    let given = table.given(key, Variable::Toml, |node| {
        read_credential(node, &node.place.folder().unwrap_or(fallback))
    });
    let (credential, place) = given.unzip();
    table.enter(key, credential.as_ref().map(write_credential), place);
    credential
}

fn address(node: &Node, fallback: &Path) -> Result<Address, String> {
    if let Value::Table(_) = &node.value {
        let folder = node.place.folder().unwrap_or_else(|| fallback.to_owned());
        return read_credential(node, &folder).map(Address::Secret);
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
    if is_exposed(&url) {
        return Err(
            "is plain http, so that alerts could be read on the way; write https://".to_owned()
        );
    }
    Ok(Address::Known(url))
}

fn write_address(address: &Address) -> String {
    match address {
        Address::Known(url) => quote(url.as_str()),
        Address::Secret(credential) => write_credential(credential),
    }
}
