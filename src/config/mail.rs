//! Settings of `[alert.mail]`: alerts sent by mail.

use cynosure_engine::alert::{MailChannel, SmtpTls};
use cynosure_engine::is_loopback_host;
use cynosure_engine::user_input::Location;

use super::auth::credential_if_given;
use super::credential::CredentialRef;
use super::file::{Node, Value, describe, plain_text};
use super::merge::EnvValueForm;
use super::reader::Section;
use super::service_url::check_host;
use super::show::{quote, quote_list};

const TLS_MODES: [(&str, SmtpTls); 3] =
    [("tls", SmtpTls::Implicit), ("starttls", SmtpTls::StartTls), ("none", SmtpTls::None)];

/// Port of mail submission with TLS from the first byte (RFC 8314, section 3.3).
const SUBMISSIONS_PORT: u32 = 465;

/// Reads `[alert.mail]`. Returns `None` if a required setting is missing or invalid; the error is
/// then recorded.
pub(super) fn read_mail(
    table: &mut Section<'_, '_>,
    location: &Location,
) -> Option<MailChannel<CredentialRef>> {
    let help = "write server = \"smtp.example.com\"";
    let check_server = |server: &str| check_host(server, "smtp.example.com");
    let server = read_text(table, "server", location, help, check_server);
    let port = table.count("port", SUBMISSIONS_PORT, 1..=u32::from(u16::MAX));
    let tls = table.choice("protection", "tls", &TLS_MODES);
    let help = "write from = \"cynosure@example.com\"";
    let from = read_text(table, "from", location, help, check_mailbox);
    let recipients = read_recipients(table, location);
    let login = read_login(table);
    if let (Some(server), SmtpTls::None) = (&server, tls)
        && !is_loopback_host(server)
    {
        let message = format!(
            "`{}` is \"none\", so password and alerts could be read on the way to {server}; \
             write \"tls\" or \"starttls\"",
            table.key("protection")
        );
        table.report_setting("protection", message);
    }
    let port = u16::try_from(port).unwrap_or(u16::MAX);
    Some(MailChannel { server: server?, port, tls, from: from?, to: recipients?, login })
}

fn read_recipients(table: &mut Section<'_, '_>, location: &Location) -> Option<Vec<String>> {
    let read = |node: &Node| {
        let Value::List(items) = &node.value else {
            let found = describe(&node.value);
            return Err(format!("is {found}; write a list such as [\"me@example.com\"]"));
        };
        let read_address = |item: &Node| {
            let text = plain_text(&item.value)?;
            check_mailbox(text).map(|()| text.to_owned())
        };
        let recipients: Vec<String> = items.iter().map(read_address).collect::<Result<_, _>>()?;
        match recipients[..] {
            [] => Err("is an empty list; write [\"me@example.com\"]".to_owned()),
            [..] => Ok(recipients),
        }
    };
    let help = "write to = [\"me@example.com\"]";
    let (recipients, location) = table.required("to", EnvValueForm::Toml, location, help, read)?;
    table.record("to", Some(quote_list(&recipients)), Some(location));
    Some(recipients)
}

fn read_login(table: &mut Section<'_, '_>) -> Option<(String, CredentialRef)> {
    let read = |node: &Node| plain_text(&node.value).map(str::to_owned);
    let (username, location) = table.given("username", EnvValueForm::Text, read).unzip();
    table.record("username", username.as_deref().map(quote), location);
    match (username, credential_if_given(table, "password")) {
        (Some(username), Some(password)) => Some((username, password)),
        (None, None) => None,
        (Some(_), None) | (None, Some(_)) => {
            let message = format!(
                "`{}` and `{}` must both be set or both be left out; add the other",
                table.key("username"),
                table.key("password")
            );
            table.report_settings(&["username", "password"], message);
            None
        }
    }
}

fn read_text(
    table: &mut Section<'_, '_>,
    key: &'static str,
    location: &Location,
    remedy: &str,
    check: impl FnOnce(&str) -> Result<(), String>,
) -> Option<String> {
    let (text, location) = table.required(key, EnvValueForm::Text, location, remedy, |node| {
        let text = plain_text(&node.value)?;
        check(text).map(|()| text.to_owned())
    })?;
    table.record(key, Some(quote(&text)), Some(location));
    Some(text)
}

/// Checks for an address of RFC 5321 as users write it. The mail library parses it again.
fn check_mailbox(text: &str) -> Result<(), String> {
    let is_address = text.split_once('@').is_some_and(|(local, domain)| {
        let has_invalid_chars = text.contains([' ', '<', '>', ',', ';']) || !text.is_ascii();
        !local.is_empty() && !domain.is_empty() && !has_invalid_chars
    });
    is_address.then_some(()).ok_or_else(|| {
        format!("holds {}, which is not a mail address; write \"me@example.com\"", quote(text))
    })
}
