//! Alerts: one notification per cause, not one per event.
//!
//! ```text
//! health report ──▶ correlate ──▶ findings, one per cause ──┐
//!                                                           ▼
//! episodes of breakers since the last cycle ──────────▶ AlertStore: alerts
//!                                                           │
//! channels ◀── rendered text ◀── Outbox ◀── notifications ──┘
//! ```
//!
//! A notification says that an alert is firing, escalated, resolved, or resolved unnotified. A
//! lasting alert is notified once when it starts firing, and once when it resolves. A flapping one
//! is notified at most once an hour: at once if its severity exceeds the notified one, otherwise
//! when the hour is over, if it is firing then. Episodes that ended between two cycles share one
//! notification, at most one an hour. After a backward clock step, times in the future count as
//! now.

mod breakers;
mod channel;
mod correlation;
mod episode;
mod key;
mod outbox;
mod store;

#[cfg(test)]
mod proptests;
#[cfg(test)]
mod tests;

pub use self::channel::{MailChannel, SmtpTls, WebhookFormat};
pub use self::correlation::correlate;
pub use self::episode::{Episode, Resolution};
pub use self::key::AlertKey;
pub use self::outbox::{ChannelState, MessagePayload, Outbox, QueuedMessage};
pub use self::store::{AlertStore, Observation, RESOLVED_ALERTS_MAX};
pub use crate::breaker::Severity;

use serde::{Deserialize, Serialize};

use crate::Timestamp;

/// Firing or resolved alert, with its notification state.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Alert {
    #[serde(alias = "cause")]
    pub key: AlertKey,
    /// Source, unit, provider, folder or channel concerned; empty: all of them.
    #[serde(alias = "about")]
    pub subject: String,
    /// Current severity, or the last one before it resolved. For an episode that ended before it
    /// could be notified: the severity of its resolution.
    pub severity: Severity,
    /// One sentence, without the subject.
    pub message: String,
    /// Recommended action.
    pub advice: Option<String>,
    #[serde(alias = "raised_at")]
    pub started_at: Timestamp,
    /// Time of the last notification that it is, or was, firing.
    #[serde(alias = "last_told")]
    pub last_notified: Option<Timestamp>,
    /// Time of the last notification of a missed episode.
    #[serde(default)]
    #[serde(alias = "last_passed")]
    last_missed_notified: Option<Timestamp>,
    /// `None` while it is firing.
    #[serde(alias = "ended_at")]
    pub resolved_at: Option<Timestamp>,
    /// Reason of the resolution; `None` if the condition simply no longer holds.
    #[serde(default)]
    #[serde(alias = "ended_since")]
    pub resolved_reason: Option<String>,
    /// Times it started firing, each within an hour of the last notification.
    #[serde(alias = "times")]
    pub occurrences: u32,
    /// Highest severity since it last started firing.
    #[serde(alias = "worst")]
    pub max_severity: Severity,
    /// Highest severity notified recently; lowered to the current one once the hour is over.
    #[serde(default)]
    #[serde(alias = "told")]
    notified_severity: Option<Severity>,
    /// True if a notification reported that it is firing now.
    #[serde(default)]
    #[serde(alias = "is_known")]
    is_notified: bool,
}

/// Notification of a change of an alert.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Notification {
    #[serde(alias = "news")]
    pub kind: NotificationKind,
    pub alert: Alert,
}

#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum NotificationKind {
    #[serde(alias = "raised")]
    Firing,
    /// The severity exceeds the one notified before.
    #[serde(alias = "worse")]
    Escalated,
    #[serde(alias = "ended")]
    Resolved,
    /// It started firing and resolved without a notification.
    #[serde(alias = "passed")]
    ResolvedUnnotified,
}

impl Notification {
    /// Returns the severity of the notification itself: `Info` once a notified alert has resolved,
    /// whatever its severity was.
    #[must_use]
    pub fn severity(&self) -> Severity {
        match self.kind {
            NotificationKind::Firing
            | NotificationKind::Escalated
            | NotificationKind::ResolvedUnnotified => self.alert.severity,
            NotificationKind::Resolved => Severity::Info,
        }
    }
}

impl Alert {
    #[must_use]
    pub fn is_firing(&self) -> bool {
        self.resolved_at.is_none()
    }
}

impl NotificationKind {
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Firing => "firing",
            Self::Escalated => "escalated",
            Self::Resolved => "resolved",
            Self::ResolvedUnnotified => "resolved_unnotified",
        }
    }
}
