//! Mail, over SMTP (RFC 5321) with TLS (RFC 8314, RFC 3207).

use std::time::Duration;

use lettre::message::header::{ContentType, Header, HeaderName, HeaderValue};
use lettre::message::{Mailbox, Message as Letter};
use lettre::transport::smtp::Error;
use lettre::transport::smtp::authentication::Credentials;
use lettre::{AsyncSmtpTransport, AsyncTransport as _, Tokio1Executor};
use secrecy::{ExposeSecret as _, SecretString};

use crate::engine::alert::{MailChannel, SmtpTls};
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
    // Fails if a provider is already installed, which is just as good.
    let _installed = rustls::crypto::ring::default_provider().install_default();
    let letter = build_email(mail, message)?;
    let transport = build_transport(mail, limit).map_err(|error| smtp_error(&error))?;
    transport.send(letter).await.map_err(|error| smtp_error(&error))?;
    Ok(())
}

fn build_email(
    mail: &MailChannel<SecretString>,
    message: &AlertMessage,
) -> Result<Letter, DeliveryError> {
    let mailbox = |text: &String| {
        text.parse::<Mailbox>().map_err(|error| {
            DeliveryError::new(format!("{text:?} is no address to write to ({error})"))
        })
    };
    let mut letter = Letter::builder()
        .from(mailbox(&mail.from)?)
        .subject(message.subject())
        .header(AutoSubmitted)
        .header(ContentType::TEXT_PLAIN);
    for to in &mail.to {
        letter = letter.to(mailbox(to)?);
    }
    letter
        .message_id(None)
        .body(format!("{}\n", message.to_text()))
        .map_err(|error| DeliveryError::new(format!("it cannot be written as a mail: {error}")))
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
    let innermost =
        std::iter::successors(Some(error as &(dyn std::error::Error + 'static)), |link| {
            link.source()
        });
    let reason = innermost.last().map(ToString::to_string).unwrap_or_default();
    DeliveryError::new(match error.status() {
        Some(code) => format!("the server rejected it with {code}: {reason}"),
        None if error.is_timeout() => "no answer in time".to_owned(),
        None if error.is_tls() => format!("no TLS connection: {reason}"),
        None if error.is_client() => reason,
        None => format!("no connection: {reason}"),
    })
}
