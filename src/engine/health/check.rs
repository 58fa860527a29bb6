//! What a check says: how well, about what, in a sentence, with the figure that decided.

use serde::{Deserialize, Serialize};

use crate::engine::watch::HealthLevel;
use crate::engine::{Timestamp, sanitize_line};

/// What is found by a check that could not be made.
pub(super) const UNKNOWN_FINDING: &str = "not_known";

/// What a check looks at.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CheckKind {
    /// The unit.
    Service,
    /// The work of each source.
    Execution,
    /// How long ago each worker last wrote its state.
    Heartbeat,
    /// The attempts of each source.
    Sources,
    /// The connections of each source.
    Clients,
    /// The ways out.
    Proxies,
    /// The machine: processor, memory, disk.
    System,
    /// What the unit wrote to the journal.
    Journal,
}

/// One check, and what came of it.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct HealthCheck {
    #[serde(rename = "name")]
    pub kind: CheckKind,
    /// What was found, in one stable word of its own: `overdue`, `disk_full` and so on.
    pub finding: String,
    /// The source, unit, provider or folder it is about; empty where it is about all there are.
    #[serde(rename = "about")]
    pub subject: String,
    pub level: HealthLevel,
    /// One sentence, without its subject.
    pub message: String,
    /// The figure that decided, with its unit.
    #[serde(rename = "figure")]
    pub value: Option<String>,
    /// From where on it is too much, or too little.
    pub threshold: Option<String>,
    /// What to do.
    pub advice: Option<String>,
}

/// All checks of one moment.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct HealthCheckReport {
    #[serde(rename = "looked_at")]
    pub checked_at: Timestamp,
    /// The worst of all; unknown where nothing was looked at.
    pub level: HealthLevel,
    pub checks: Vec<HealthCheck>,
}

impl CheckKind {
    pub const ALL: [Self; 8] = [
        Self::Service,
        Self::Execution,
        Self::Heartbeat,
        Self::Sources,
        Self::Clients,
        Self::Proxies,
        Self::System,
        Self::Journal,
    ];

    /// The word for it in files, logs and tables.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Service => "service",
            Self::Execution => "execution",
            Self::Heartbeat => "heartbeat",
            Self::Sources => "sources",
            Self::Clients => "clients",
            Self::Proxies => "proxies",
            Self::System => "system",
            Self::Journal => "journal",
        }
    }
}

impl HealthCheck {
    /// A check with nothing but its sentence.
    #[must_use]
    pub fn new(
        name: CheckKind,
        finding: &str,
        level: HealthLevel,
        message: impl Into<String>,
    ) -> Self {
        Self {
            kind: name,
            finding: finding.to_owned(),
            subject: String::new(),
            level,
            message: message.into(),
            value: None,
            threshold: None,
            advice: None,
        }
    }

    /// One that could not be made.
    #[must_use]
    pub fn unknown(name: CheckKind, why: &str) -> Self {
        Self::new(
            name,
            UNKNOWN_FINDING,
            HealthLevel::Unknown,
            format!("cannot be told: {}", sanitize_line(why)),
        )
    }

    #[must_use]
    pub fn with_subject(mut self, about: impl Into<String>) -> Self {
        self.subject = about.into();
        self
    }

    /// What was measured, and against what.
    #[must_use]
    pub fn with_measurement(
        mut self,
        figure: impl Into<String>,
        threshold: impl Into<String>,
    ) -> Self {
        (self.value, self.threshold) = (Some(figure.into()), Some(threshold.into()));
        self
    }

    #[must_use]
    pub fn with_advice(mut self, advice: impl Into<String>) -> Self {
        self.advice = Some(advice.into());
        self
    }
}

impl HealthCheckReport {
    #[must_use]
    pub fn new(checks: Vec<HealthCheck>, looked_at: Timestamp) -> Self {
        let level = checks.iter().map(|check| check.level).max().unwrap_or(HealthLevel::Unknown);
        Self { checked_at: looked_at, level, checks }
    }
}
