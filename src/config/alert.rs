//! Settings of `[alert]`: channels that receive alerts, and the limits of their deliveries.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use cynosure_engine::alert::{MailChannel, Severity, WebhookFormat};
use cynosure_engine::user_input::Location;
use url::Url;

use super::auth::{credential_if_given, read_credential, write_credential};
use super::credential::CredentialRef;
use super::file::{Node, Table, Value, plain_text};
use super::folder::base_folder;
use super::mail;
use super::merge::EnvValueForm;
use super::ranges::{POSITIVE_DURATION, seconds};
use super::reader::{Reader, Section};
use super::service_url::is_plaintext_remote;
use super::show::{quote, quote_key};

const SEVERITIES: [(&str, Severity); 3] =
    [("info", Severity::Info), ("warning", Severity::Warning), ("critical", Severity::Critical)];

const WEBHOOK_FORMATS: [(&str, WebhookFormat); 3] =
    [("json", WebhookFormat::Json), ("slack", WebhookFormat::Slack), ("ntfy", WebhookFormat::Ntfy)];

/// Range of the time for one delivery. At most 10 minutes, so that one slow channel does not delay
/// the others for long.
const CHANNEL_TIMEOUT_RANGE: std::ops::RangeInclusive<Duration> =
    Duration::from_millis(1)..=Duration::from_secs(600);

/// Alert channels. The journal always receives every alert.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct AlertSettings {
    /// Lowest severity that is sent to the channels. Alerts below it go to the journal only.
    pub severity: Severity,
    /// Time for which a failed delivery is retried.
    pub expire_after: Duration,
    /// Timeout of one delivery.
    pub timeout: Duration,
    /// Requested after each completed session.
    pub ping_url: Option<UrlOrSecret>,
    pub webhooks: BTreeMap<String, WebhookSettings>,
    pub mail: Option<MailChannel<CredentialRef>>,
}

/// URL in the configuration, or a reference to one that is itself a secret.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum UrlOrSecret {
    /// `https`, or `http` to a loopback address.
    Url(Url),
    Secret(CredentialRef),
}

/// Channel that receives alerts as HTTP requests.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct WebhookSettings {
    pub url: UrlOrSecret,
    pub format: WebhookFormat,
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
        timeout: table.duration("timeout", seconds(30), CHANNEL_TIMEOUT_RANGE),
        ping_url: read_ping(table),
        webhooks: BTreeMap::new(),
        mail: None,
    });
    let mail = mail_table.and_then(|node| {
        let location = node.location.clone();
        let table = reader.as_table("alert.mail", node)?;
        reader.section("alert.mail", table, |table| mail::read_mail(table, &location))
    });
    AlertSettings { webhooks: read_webhooks(reader, webhooks.unwrap_or_default()), mail, ..alert }
}

fn read_ping(table: &mut Section<'_, '_>) -> Option<UrlOrSecret> {
    let fallback = table.reader.folder.clone();
    let given =
        table.given("ping", EnvValueForm::Toml, |node| parse_url_or_secret(node, &fallback));
    let (url, location) = given.unzip();
    table.record("ping", url.as_ref().map(write_url_or_secret), location);
    url
}

fn read_webhooks(reader: &mut Reader<'_>, tables: Table) -> BTreeMap<String, WebhookSettings> {
    let mut webhooks = BTreeMap::new();
    for (name, node) in tables {
        let location = node.location.clone();
        let table_name = format!("alert.webhook.{}", quote_key(&name));
        let Some(table) = reader.as_table(&table_name, node) else { continue };
        let webhook = reader.section(&table_name, table, |table| read_webhook(table, &location));
        webhooks.extend(webhook.map(|webhook| (name, webhook)));
    }
    webhooks
}

fn read_webhook(table: &mut Section<'_, '_>, location: &Location) -> Option<WebhookSettings> {
    let fallback = table.reader.folder.clone();
    let help = "write url = \"https://ntfy.example.com/alerts\", \
                or url = { file = \"hook-url\" } where it is a secret";
    let url = table.required("url", EnvValueForm::Toml, location, help, |node| {
        parse_url_or_secret(node, &fallback)
    });
    if let Some((url, location)) = &url {
        table.record("url", Some(write_url_or_secret(url)), Some(location.clone()));
    }
    let format = table.choice("shape", "json", &WEBHOOK_FORMATS);
    let token = credential_if_given(table, "token");
    Some(WebhookSettings { url: url?.0, format, token })
}

fn parse_url_or_secret(node: &Node, fallback: &Path) -> Result<UrlOrSecret, String> {
    if let Value::Table(_) = &node.value {
        let folder = base_folder(&node.location).unwrap_or_else(|| fallback.to_owned());
        return read_credential(node, &folder).map(UrlOrSecret::Secret);
    }
    let help = "write \"https://…\", or { file = \"PATH\" } where the URL is itself a secret";
    // The text is not quoted, because it may be a secret.
    let url = Url::parse(plain_text(&node.value)?)
        .map_err(|_error| format!("is not a valid URL; {help}"))?;
    if !matches!(url.scheme(), "https" | "http") || url.host().is_none() {
        return Err(format!("is not an http or https URL; {help}"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("holds a user name or a password; put the whole URL into a file, \
                    and write { file = \"PATH\" }"
            .to_owned());
    }
    if is_plaintext_remote(&url) {
        return Err(
            "is plain http, so that alerts could be read on the way; write https://".to_owned()
        );
    }
    Ok(UrlOrSecret::Url(url))
}

fn write_url_or_secret(url: &UrlOrSecret) -> String {
    match url {
        UrlOrSecret::Url(url) => quote(url.as_str()),
        UrlOrSecret::Secret(credential) => write_credential(credential),
    }
}
