//! Tells people, by whatever channel they chose.
//!
//! Each channel says once what it has to say and how that went; whoever calls decides when to try
//! again. A delivery takes no longer than it may, and no error holds a secret or an address that may
//! be one.

mod http;
pub mod journal;
mod mail;
mod message;

use std::fmt;
use std::time::Duration;

use secrecy::SecretString;

pub use self::message::AlertMessage;

use crate::engine::alert::{MailChannel, WebhookFormat};
use crate::engine::{format_duration, sanitize_line};

/// One way to somebody.
#[derive(Clone, Debug)]
pub enum Channel {
    Webhook(WebhookChannel),
    Mail(MailChannel<SecretString>),
    /// An address that is only asked for, to show that we are there.
    Ping(SecretString),
}

/// Somebody who is told by HTTP.
#[derive(Clone, Debug)]
pub struct WebhookChannel {
    /// Anyone who knows it may speak there.
    pub url: SecretString,
    pub format: WebhookFormat,
    /// Sent as a bearer token.
    pub token: Option<SecretString>,
}

/// Why somebody was not told: one line without secrets.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct DeliveryError(String);

impl DeliveryError {
    pub(crate) fn new(why: impl AsRef<str>) -> Self {
        Self(sanitize_line(why.as_ref()))
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
    /// When whoever is at the other end did not take it.
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
        let late = || DeliveryError::new(format!("not done within {}", format_duration(limit)));
        tokio::time::timeout(limit, delivery).await.unwrap_or_else(|_late| Err(late()))
    }
}
