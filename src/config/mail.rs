//! `[alert.mail]`: whoever is told by mail.

use url::Url;

use super::alert::credential_if_given;
use super::ask::{describe, plain_text};
use super::credential::CredentialRef;
use super::file::{Node, Value};
use super::location::Location;
use super::merge::Variable;
use super::reader::Section;
use super::show::{quote, quote_list};
use super::source::is_plaintext_remote;
use crate::engine::alert::{MailChannel, SmtpTls};

const TLS_MODES: [(&str, SmtpTls); 3] =
    [("tls", SmtpTls::Implicit), ("starttls", SmtpTls::StartTls), ("none", SmtpTls::None)];

/// RFC 8314 §3.3: submission with TLS from the first byte.
const SUBMISSIONS_PORT: u32 = 465;

/// Reads `[alert.mail]`; `None` when what it cannot do without is missing or wrong, which is then among the mistakes.
pub(super) fn read_mail(
    table: &mut Section<'_, '_>,
    place: &Location,
) -> Option<MailChannel<CredentialRef>> {
    let help = "write server = \"smtp.example.com\"";
    let server = read_text(table, "server", place, help, check_host);
    let port = table.count("port", SUBMISSIONS_PORT, 1..=u32::from(u16::MAX));
    let protection = table.choice("protection", "tls", &TLS_MODES);
    let help = "write from = \"cynosure@example.com\"";
    let from = read_text(table, "from", place, help, check_mailbox);
    let to = read_recipients(table, place);
    let login = read_login(table);
    if let (Some(server), SmtpTls::None) = (&server, protection)
        && !is_loopback_host(server)
    {
        let what = format!(
            "`{}` is \"none\", so password and alerts could be read on the way to {server}; \
             write \"tls\" or \"starttls\"",
            table.key("protection")
        );
        table.refuse_entry("protection", what);
    }
    let port = u16::try_from(port).unwrap_or(u16::MAX);
    Some(MailChannel { server: server?, port, tls: protection, from: from?, to: to?, login })
}

fn read_recipients(table: &mut Section<'_, '_>, place: &Location) -> Option<Vec<String>> {
    let read = |node: &Node| {
        let Value::List(items) = &node.value else {
            let what = describe(&node.value);
            return Err(format!("is {what}; write a list such as [\"me@example.com\"]"));
        };
        let read = |item: &Node| {
            let text = plain_text(&item.value)?;
            check_mailbox(text).map(|()| text.to_owned())
        };
        let to: Vec<String> = items.iter().map(read).collect::<Result<_, _>>()?;
        match to[..] {
            [] => Err("names nobody; write [\"me@example.com\"]".to_owned()),
            [..] => Ok(to),
        }
    };
    let help = "write to = [\"me@example.com\"]";
    let (to, place) = table.required("to", Variable::Toml, place, help, read)?;
    table.enter("to", Some(quote_list(&to)), Some(place));
    Some(to)
}

fn read_login(table: &mut Section<'_, '_>) -> Option<(String, CredentialRef)> {
    let read = |node: &Node| plain_text(&node.value).map(str::to_owned);
    let (username, place) = table.given("username", Variable::Text, read).unzip();
    table.enter("username", username.as_deref().map(quote), place);
    match (username, credential_if_given(table, "password")) {
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
    }
}

fn read_text(
    table: &mut Section<'_, '_>,
    key: &'static str,
    place: &Location,
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

fn check_host(server: &str) -> Result<(), String> {
    let url = Url::parse(&format!("smtp://{server}/"));
    let is_host = url.is_ok_and(|url| url.host_str() == Some(server) && url.port().is_none());
    is_host.then_some(()).ok_or_else(|| {
        format!(
            "is {}, which is no host name; write one such as \"smtp.example.com\"",
            quote(server)
        )
    })
}

/// An address of RFC 5321 as people write it; the mail library reads it again.
fn check_mailbox(text: &str) -> Result<(), String> {
    let is_one = text.split_once('@').is_some_and(|(local, domain)| {
        let is_strange = text.contains([' ', '<', '>', ',', ';']) || !text.is_ascii();
        !local.is_empty() && !domain.is_empty() && !is_strange
    });
    is_one.then_some(()).ok_or_else(|| {
        format!("holds {}, which is no mail address; write \"me@example.com\"", quote(text))
    })
}

fn is_loopback_host(server: &str) -> bool {
    Url::parse(&format!("http://{server}/")).is_ok_and(|url| !is_plaintext_remote(&url))
}
