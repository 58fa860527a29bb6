//! `[alert]`: who is told what is amiss, and how.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use url::Url;

use super::ask::{describe, plain_text};
use super::auth::{read_credential, write_credential};
use super::build::{SOME_TIME, seconds};
use super::credential::CredentialRef;
use super::file::{Node, Table, Value};
use super::merge::Variable;
use super::place::Place;
use super::reader::{Reader, Section};
use super::show::{quote, quote_key};
use super::source::is_exposed;
use crate::engine::alert::{Protection, Severity, Shape};

const SEVERITIES: [(&str, Severity); 3] =
    [("info", Severity::Info), ("warning", Severity::Warning), ("critical", Severity::Critical)];

const SHAPES: [(&str, Shape); 3] =
    [("json", Shape::Json), ("slack", Shape::Slack), ("ntfy", Shape::Ntfy)];

const PROTECTIONS: [(&str, Protection); 3] =
    [("tls", Protection::Tls), ("starttls", Protection::StartTls), ("none", Protection::None)];

/// RFC 8314 §3.3: submission with TLS from the first byte.
const SUBMISSIONS_PORT: u32 = 465;

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
    pub mail: Option<Mail>,
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
    pub shape: Shape,
    /// Sent as a bearer token.
    pub token: Option<CredentialRef>,
}

/// Somebody who is told by mail.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Mail {
    pub server: String,
    pub port: u16,
    pub protection: Protection,
    pub from: String,
    /// At least one.
    pub to: Vec<String>,
    /// User name and password.
    pub login: Option<(String, CredentialRef)>,
}

/// Reads `[alert]` and the tables below it.
pub(super) fn alert(reader: &mut Reader<'_>) -> Alert {
    let mut table = reader.table("alert");
    let webhooks = table.remove("webhook").and_then(|node| reader.as_table("alert.webhook", node));
    let mail = table.remove("mail");
    let alert = reader.section("alert", table, |table| Alert {
        severity: table.choice("severity", "warning", &SEVERITIES),
        expire: table.duration("expire", seconds(86_400), SOME_TIME),
        timeout: table.duration("timeout", seconds(30), CHANNEL_TIME),
        ping: ping(table),
        webhooks: BTreeMap::new(),
        mail: None,
    });
    let mail = mail.and_then(|node| {
        let place = node.place.clone();
        let table = reader.as_table("alert.mail", node)?;
        reader.section("alert.mail", table, |table| self::mail(table, &place))
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

fn mail(table: &mut Section<'_, '_>, place: &Place) -> Option<Mail> {
    let server = text(table, "server", place, "write server = \"smtp.example.com\"", |server| {
        let is_host = Url::parse(&format!("smtp://{server}/"))
            .is_ok_and(|url| url.host_str() == Some(server) && url.port().is_none());
        is_host.then_some(()).ok_or_else(|| {
            format!(
                "is {}, which is no host name; write one such as \"smtp.example.com\"",
                quote(server)
            )
        })
    });
    let port = table.count("port", SUBMISSIONS_PORT, 1..=65_535);
    let protection = table.choice("protection", "tls", &PROTECTIONS);
    let from = text(table, "from", place, "write from = \"cynosure@example.com\"", check_mailbox);
    let given =
        table.required("to", Variable::Toml, place, "write to = [\"me@example.com\"]", |node| {
            let Value::List(items) = &node.value else {
                return Err(format!(
                    "is {}; write a list such as [\"me@example.com\"]",
                    describe(&node.value)
                ));
            };
            let read = |item: &Node| {
                let text = plain_text(&item.value)?;
                check_mailbox(text).map(|()| text.to_owned())
            };
            let to: Vec<String> = items.iter().map(read).collect::<Result<_, _>>()?;
            if to.is_empty() {
                Err("names nobody; write [\"me@example.com\"]".to_owned())
            } else {
                Ok(to)
            }
        });
    if let Some((to, place)) = &given {
        table.enter("to", Some(super::show::quote_list(to)), Some(place.clone()));
    }
    let username =
        table.given("username", Variable::Text, |node| plain_text(&node.value).map(str::to_owned));
    let (username, place_of_name) = username.unzip();
    table.enter("username", username.as_deref().map(quote), place_of_name);
    let password = credential(table, "password");
    let login = match (username, password) {
        (Some(username), Some(password)) => Some((username, password)),
        (None, None) => None,
        (Some(_), None) | (None, Some(_)) => {
            let what = format!(
                "`{}` and `{}` stand together or not at all; add the other",
                table.key("username"),
                table.key("password")
            );
            table.refuse_written(&["username", "password"], what);
            None
        }
    };
    if let (Some(server), Protection::None) = (&server, protection)
        && !is_this_machine(server)
    {
        let what = format!(
            "`{}` is \"none\", so password and alerts could be read on the way to {server}; write \"tls\" or \"starttls\"",
            table.key("protection")
        );
        table.refuse_entry("protection", what);
    }
    let (server, from, (to, _)) = (server?, from?, given?);
    Some(Mail {
        server,
        port: u16::try_from(port).unwrap_or(u16::MAX),
        protection,
        from,
        to,
        login,
    })
}

fn text(
    table: &mut Section<'_, '_>,
    key: &'static str,
    place: &Place,
    missing: &str,
    check: impl FnOnce(&str) -> Result<(), String>,
) -> Option<String> {
    let (text, place) = table.required(key, Variable::Text, place, missing, |node| {
        let text = plain_text(&node.value)?;
        check(text).map(|()| text.to_owned())
    })?;
    table.enter(key, Some(quote(&text)), Some(place));
    Some(text)
}

fn credential(table: &mut Section<'_, '_>, key: &'static str) -> Option<CredentialRef> {
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

/// An address of RFC 5321 as people write it; the mail library reads it again.
fn check_mailbox(text: &str) -> Result<(), String> {
    let is_one = text.split_once('@').is_some_and(|(local, domain)| {
        !local.is_empty()
            && !domain.is_empty()
            && !text.contains([' ', '<', '>', ',', ';'])
            && text.is_ascii()
    });
    is_one.then_some(()).ok_or_else(|| {
        format!("holds {}, which is no mail address; write \"me@example.com\"", quote(text))
    })
}

fn is_this_machine(server: &str) -> bool {
    Url::parse(&format!("http://{server}/")).is_ok_and(|url| !is_exposed(&url))
}
