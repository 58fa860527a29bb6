//! Alerts: what a person is told, once per cause and not once per event.
//!
//! ```text
//! concerns of this moment ──▶ Alerts ──▶ notices: raised, worse, ended, passed
//! spells since the last   ──▶
//! ```
//!
//! A cause that lasts is told once, when it begins, and again when it has ended. One that comes and
//! goes is told at most once an hour, at once where it is worse than what was told, and what stands
//! when the hour is over is told then. A spell that was over before anybody looked is told in one
//! notice, within the same hour. The clock may step: what was told in the future counts as told now.

mod channel;
mod condition;
mod episode;
mod outbox;
mod store;

#[cfg(test)]
mod missed_episode_tests;
#[cfg(test)]
mod proptests;
#[cfg(test)]
mod tests;

pub use self::channel::{MailChannel, SmtpTls, WebhookFormat};
pub use self::condition::{AlertCondition, AlertKey};
pub use self::episode::{Episode, Resolution};
pub use self::outbox::{ChannelState, MessagePayload, Outbox, QueuedMessage};
pub use self::store::{AlertStore, Observation, RESOLVED_ALERTS_MAX};
pub use crate::engine::breaker::Severity;

use serde::{Deserialize, Serialize};

use crate::engine::Timestamp;

/// A cause that was or is there, and what was told of it.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Alert {
    #[serde(rename = "cause")]
    pub key: AlertKey,
    /// The source, unit, provider, folder or channel it is about; empty where it is about all there are.
    #[serde(rename = "about")]
    pub subject: String,
    /// As it is, as it was in the end, or, where it was over before it could be told, that of its end.
    pub severity: Severity,
    /// One sentence, without its subject.
    pub message: String,
    /// What to do.
    pub advice: Option<String>,
    #[serde(rename = "raised_at")]
    pub started_at: Timestamp,
    /// When it was last told that it is, or was, there.
    #[serde(rename = "last_told")]
    pub last_notified: Option<Timestamp>,
    /// When it was last told that it came and went.
    #[serde(default)]
    #[serde(rename = "last_passed")]
    last_missed_notified: Option<Timestamp>,
    /// Absent while it is there.
    #[serde(rename = "ended_at")]
    pub resolved_at: Option<Timestamp>,
    /// Why it ended, where that is not simply that all is well again.
    #[serde(default)]
    #[serde(rename = "ended_since")]
    pub resolved_reason: Option<String>,
    /// How often it began, within an hour of being told each time.
    #[serde(rename = "times")]
    pub occurrences: u32,
    /// The worst that it was since it last began.
    #[serde(rename = "worst")]
    pub max_severity: Severity,
    /// The worst that was told of it lately.
    #[serde(default)]
    #[serde(rename = "told")]
    notified_severity: Option<Severity>,
    /// Whether it is known to a person that it is there now.
    #[serde(default)]
    #[serde(rename = "is_known")]
    is_notified: bool,
}

/// Something to tell.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Notification {
    #[serde(rename = "news")]
    pub kind: NotificationKind,
    pub alert: Alert,
}

#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum NotificationKind {
    #[serde(rename = "raised")]
    Firing,
    /// It was told before, as less bad than it is.
    #[serde(rename = "worse")]
    Escalated,
    #[serde(rename = "ended")]
    Resolved,
    /// It came and went, and was not told before.
    #[serde(rename = "passed")]
    ResolvedUnnotified,
}

impl Notification {
    /// How much it matters now. What is over is worth a look at most, however bad it was.
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
            Self::Firing => "raised",
            Self::Escalated => "worse",
            Self::Resolved => "ended",
            Self::ResolvedUnnotified => "passed",
        }
    }
}
