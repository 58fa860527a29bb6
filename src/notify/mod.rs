//! Delivery of alerts over the configured channels: webhook, mail and ping, beside the journal.
//!
//! A delivery is one attempt that reports its result; the caller decides when to retry. It takes no
//! longer than its time limit, and no error contains a secret or a URL that may be one.

mod http;
pub mod journal;
mod mail;
mod message;

use std::fmt;
use std::time::Duration;

use secrecy::SecretString;

pub use self::message::AlertMessage;

use cynosure_engine::alert::{MailChannel, WebhookFormat};
use cynosure_engine::{format_duration, sanitize_line};

/// Channel that delivers alerts.
#[derive(Clone, Debug)]
pub enum Channel {
    Webhook(WebhookChannel),
    Mail(MailChannel<SecretString>),
    /// URL that is only requested, to show that this program is alive.
    Ping(SecretString),
}

/// Webhook that receives alerts over HTTP.
#[derive(Clone, Debug)]
pub struct WebhookChannel {
    /// Secret, because anyone who knows it can post there.
    pub url: SecretString,
    pub format: WebhookFormat,
    /// Sent as a bearer token.
    pub token: Option<SecretString>,
}

/// Delivery failure: one line without secrets.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct DeliveryError(String);

impl DeliveryError {
    pub(crate) fn new(reason: impl AsRef<str>) -> Self {
        Self(sanitize_line(reason.as_ref()))
    }
}

impl fmt::Display for DeliveryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for DeliveryError {}

impl Channel {
    /// Delivers a message, within `limit` from beginning to end.
    ///
    /// # Errors
    /// An error if the receiver did not accept the message in time.
    pub async fn deliver(
        &self,
        message: &AlertMessage,
        limit: Duration,
    ) -> Result<(), DeliveryError> {
        let delivery = async {
            match self {
                Self::Webhook(webhook) => http::send_webhook(webhook, message).await,
                Self::Mail(mail) => mail::send_mail(mail, message, limit).await,
                Self::Ping(url) => http::send_ping(url).await,
            }
        };
        let timeout_error =
            || DeliveryError::new(format!("not done within {}", format_duration(limit)));
        tokio::time::timeout(limit, delivery).await.unwrap_or_else(|_elapsed| Err(timeout_error()))
    }
}
