//! Mail, over SMTP (RFC 5321) with TLS (RFC 8314, RFC 3207).

use std::time::Duration;

use cynosure_engine::alert::{MailChannel, SmtpTls};
use lettre::message::header::{ContentType, Header, HeaderName, HeaderValue};
use lettre::message::{Mailbox, Message};
use lettre::transport::smtp::Error;
use lettre::transport::smtp::authentication::Credentials;
use lettre::{AsyncSmtpTransport, AsyncTransport as _, Tokio1Executor};
use secrecy::{ExposeSecret as _, SecretString};

use crate::http_client::{error_chain, install_crypto_provider};
use crate::notify::{AlertMessage, DeliveryError};

/// Header that suppresses automatic replies, such as holiday messages (RFC 3834 §5).
#[derive(Clone)]
struct AutoSubmitted;

impl Header for AutoSubmitted {
    fn name() -> HeaderName {
        HeaderName::new_from_ascii_str("Auto-Submitted")
    }

    fn parse(_text: &str) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        Ok(Self)
    }

    fn display(&self) -> HeaderValue {
        HeaderValue::new(Self::name(), "auto-generated".to_owned())
    }
}

pub(super) async fn send_mail(
    mail: &MailChannel<SecretString>,
    message: &AlertMessage,
    limit: Duration,
) -> Result<(), DeliveryError> {
    install_crypto_provider();
    let email = build_email(mail, message)?;
    let transport = build_transport(mail, limit).map_err(|error| smtp_error(&error))?;
    transport.send(email).await.map_err(|error| smtp_error(&error))?;
    Ok(())
}

fn build_email(
    mail: &MailChannel<SecretString>,
    message: &AlertMessage,
) -> Result<Message, DeliveryError> {
    let mailbox = |text: &String| {
        text.parse::<Mailbox>()
            .map_err(|error| DeliveryError::new(format!("{text:?} is not a mail address: {error}")))
    };
    let mut email = Message::builder()
        .from(mailbox(&mail.from)?)
        .subject(message.subject())
        .header(AutoSubmitted)
        .header(ContentType::TEXT_PLAIN);
    for to in &mail.to {
        email = email.to(mailbox(to)?);
    }
    email
        .message_id(None)
        .body(format!("{}\n", message.to_text()))
        .map_err(|error| DeliveryError::new(format!("cannot build the mail: {error}")))
}

fn build_transport(
    mail: &MailChannel<SecretString>,
    limit: Duration,
) -> Result<AsyncSmtpTransport<Tokio1Executor>, Error> {
    let builder = match mail.tls {
        SmtpTls::Implicit => AsyncSmtpTransport::<Tokio1Executor>::relay(&mail.server)?,
        SmtpTls::StartTls => AsyncSmtpTransport::<Tokio1Executor>::starttls_relay(&mail.server)?,
        SmtpTls::None => AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(&mail.server),
    };
    let builder = builder.port(mail.port).timeout(Some(limit));
    Ok(match &mail.login {
        Some((username, password)) => {
            let password = password.expose_secret().to_owned();
            builder.credentials(Credentials::new(username.clone(), password)).build()
        }
        None => builder.build(),
    })
}

/// Describes an SMTP error: the reply of the server, or the reason why there is none.
fn smtp_error(error: &Error) -> DeliveryError {
    let reason = error_chain(error).last().map(ToString::to_string).unwrap_or_default();
    DeliveryError::new(match error.status() {
        Some(code) => format!("the server rejected it with {code}: {reason}"),
        None if error.is_timeout() => "timeout".to_owned(),
        None if error.is_tls() => format!("no TLS connection: {reason}"),
        None if error.is_client() => reason,
        None => format!("no connection: {reason}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use cynosure_engine::Timestamp;
    use cynosure_engine::alert::{AlertStore, Observation};
    use cynosure_engine::health::{CheckKind, Finding, HealthLevel};

    #[test]
    fn a_mail_has_its_headers_and_a_readable_text() {
        let now = Timestamp(1_772_874_303_000);
        let (level, message) = (HealthLevel::Warning, "its disk is filling up");
        let finding = Finding::new(CheckKind::System, "disk_full", level, message)
            .with_subject("downloads")
            .with_advice("make room, or move `archive.dir`");
        let observation = Observation { findings: vec![finding], ..Observation::default() };
        let notifications = AlertStore::default().evaluate(&observation, now);
        let channel = MailChannel {
            server: "smtp.example.com".to_owned(),
            port: 465,
            tls: SmtpTls::Implicit,
            login: None,
            from: "cynosure@example.com".to_owned(),
            to: vec!["me@example.com".to_owned(), "you@example.com".to_owned()],
        };

        let email = build_email(&channel, &AlertMessage::new("mars", notifications, now)).unwrap();

        let text = String::from_utf8(email.formatted()).unwrap().replace("\r\n", "\n");
        let is_fixed = |line: &&str| !line.starts_with("Message-ID:") && !line.starts_with("Date:");
        let fixed: Vec<&str> = text.lines().filter(is_fixed).collect();
        insta::assert_snapshot!(fixed.join("\n"), @r"
        From: cynosure@example.com
        Subject: cynosure on mars: WARNING: downloads: its disk is filling up
        Auto-Submitted: auto-generated
        Content-Type: text/plain; charset=utf-8
        To: me@example.com, you@example.com
        Content-Transfer-Encoding: 7bit

        WARNING: downloads: its disk is filling up
        It began at 2026-03-07T09:05:03.000Z.
        What to do: make room, or move `archive.dir`.
        ");
    }
}
