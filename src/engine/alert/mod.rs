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

mod book;
mod channel;
mod concern;
mod outbox;
mod spell;

#[cfg(test)]
mod laws;
#[cfg(test)]
mod passing;
#[cfg(test)]
mod tests;

pub use self::book::{ALERTS_KEPT, Alerts, Looked};
pub use self::channel::{Mail, Protection, Shape};
pub use self::concern::{Cause, Concern};
pub use self::outbox::{Outbox, Said, Tray, Word};
pub use self::spell::{Ending, Spell};
pub use crate::engine::breaker::Severity;

use serde::{Deserialize, Serialize};

use crate::engine::Timestamp;

/// A cause that was or is there, and what was told of it.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Alert {
    pub cause: Cause,
    /// The source, unit, provider, folder or channel it is about; empty where it is about all there are.
    pub about: String,
    /// As it is, as it was in the end, or, where it was over before it could be told, that of its end.
    pub severity: Severity,
    /// One sentence, without its subject.
    pub message: String,
    /// What to do.
    pub advice: Option<String>,
    pub raised_at: Timestamp,
    /// When it was last told that it is, or was, there.
    pub last_told: Option<Timestamp>,
    /// When it was last told that it came and went.
    #[serde(default)]
    last_passed: Option<Timestamp>,
    /// Absent while it is there.
    pub ended_at: Option<Timestamp>,
    /// Why it ended, where that is not simply that all is well again.
    #[serde(default)]
    pub ended_since: Option<String>,
    /// How often it began, within an hour of being told each time.
    pub times: u32,
    /// The worst that it was since it last began.
    pub worst: Severity,
    /// The worst that was told of it lately.
    #[serde(default)]
    told: Option<Severity>,
    /// Whether it is known to a person that it is there now.
    #[serde(default)]
    is_known: bool,
}

/// Something to tell.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Notice {
    pub news: News,
    pub alert: Alert,
}

#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum News {
    Raised,
    /// It was told before, as less bad than it is.
    Worse,
    Ended,
    /// It came and went, and was not told before.
    Passed,
}

impl Notice {
    /// How much it matters now. What is over is worth a look at most, however bad it was.
    #[must_use]
    pub fn severity(&self) -> Severity {
        match self.news {
            News::Raised | News::Worse | News::Passed => self.alert.severity,
            News::Ended => Severity::Info,
        }
    }
}

impl Alert {
    #[must_use]
    pub fn is_there(&self) -> bool {
        self.ended_at.is_none()
    }
}

impl News {
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Raised => "raised",
            Self::Worse => "worse",
            Self::Ended => "ended",
            Self::Passed => "passed",
        }
    }
}
