//! Tells people, by whatever channel they chose.
//!
//! Each channel says once what it has to say and how that went; whoever calls decides when to try
//! again. A delivery takes no longer than it may, and no error holds a secret or an address that may
//! be one.

mod http;
pub mod journal;
mod mail;
mod text;

use std::fmt;
use std::time::Duration;

use secrecy::SecretString;

pub use self::text::Message;

use crate::engine::alert::{MailChannel, WebhookFormat};
use crate::engine::{format_duration, sanitize_line};

/// One way to somebody.
#[derive(Clone, Debug)]
pub enum Channel {
    Webhook(Webhook),
    Mail(MailChannel<SecretString>),
    /// An address that is only asked for, to show that we are there.
    Ping(SecretString),
}

/// Somebody who is told by HTTP.
#[derive(Clone, Debug)]
pub struct Webhook {
    /// Anyone who knows it may speak there.
    pub url: SecretString,
    pub shape: WebhookFormat,
    /// Sent as a bearer token.
    pub token: Option<SecretString>,
}

/// Why somebody was not told: one line without secrets.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Undelivered(String);

impl Undelivered {
    pub(crate) fn new(why: impl AsRef<str>) -> Self {
        Self(sanitize_line(why.as_ref()))
    }
}

impl fmt::Display for Undelivered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Undelivered {}

impl Channel {
    /// Delivers a message, within `limit` from beginning to end.
    ///
    /// # Errors
    /// When whoever is at the other end did not take it.
    pub async fn deliver(&self, message: &Message, limit: Duration) -> Result<(), Undelivered> {
        let delivery = async {
            match self {
                Self::Webhook(webhook) => http::post(webhook, message).await,
                Self::Mail(mail) => mail::send(mail, message, limit).await,
                Self::Ping(url) => http::ping(url).await,
            }
        };
        let late = || Undelivered::new(format!("not done within {}", format_duration(limit)));
        tokio::time::timeout(limit, delivery).await.unwrap_or_else(|_late| Err(late()))
    }
}
