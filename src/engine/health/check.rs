//! Health checks: level, subject, message, and the value that decided.

use serde::{Deserialize, Serialize};

use crate::engine::health::watch::HealthLevel;
use crate::engine::{Timestamp, sanitize_line};

/// Finding of a check that could not be made.
pub(super) const UNKNOWN_FINDING: &str = "unknown";

/// Kind of a check.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CheckKind {
    /// State of the units.
    Service,
    /// Work of each source.
    Execution,
    /// Time since each worker last wrote its state.
    Heartbeat,
    /// Success rate of each source's attempts.
    Sources,
    /// Connections of each source.
    Clients,
    /// Proxy pool.
    Proxies,
    /// Host: processor, memory, disks, archives.
    System,
    /// Errors of the units in the journal.
    Journal,
}

/// Result of one check.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct HealthCheck {
    #[serde(rename = "name")]
    pub kind: CheckKind,
    /// Stable identifier of the result: `overdue`, `disk_full` and so on.
    pub finding: String,
    /// Source, unit, provider or folder concerned; empty: all of them.
    #[serde(rename = "about")]
    pub subject: String,
    pub level: HealthLevel,
    /// One sentence, without the subject.
    pub message: String,
    /// Measured value that decided, with its unit.
    #[serde(rename = "figure")]
    pub value: Option<String>,
    /// Threshold that the value was compared with.
    pub threshold: Option<String>,
    /// Recommended action.
    pub advice: Option<String>,
}

/// All checks of one evaluation.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct HealthCheckReport {
    #[serde(rename = "looked_at")]
    pub checked_at: Timestamp,
    /// Worst level of all checks; unknown without any check.
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

    /// Returns the name in files, logs and tables.
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
    /// Creates a check without subject, value, threshold and advice.
    #[must_use]
    pub fn new(
        kind: CheckKind,
        finding: &str,
        level: HealthLevel,
        message: impl Into<String>,
    ) -> Self {
        Self {
            kind,
            finding: finding.to_owned(),
            subject: String::new(),
            level,
            message: message.into(),
            value: None,
            threshold: None,
            advice: None,
        }
    }

    /// Creates a check that could not be made, with the reason.
    #[must_use]
    pub fn unknown(kind: CheckKind, reason: &str) -> Self {
        Self::new(
            kind,
            UNKNOWN_FINDING,
            HealthLevel::Unknown,
            format!("cannot be checked: {}", sanitize_line(reason)),
        )
    }

    #[must_use]
    pub fn with_subject(mut self, subject: impl Into<String>) -> Self {
        self.subject = subject.into();
        self
    }

    /// Sets the measured value and its threshold.
    #[must_use]
    pub fn with_measurement(
        mut self,
        value: impl Into<String>,
        threshold: impl Into<String>,
    ) -> Self {
        (self.value, self.threshold) = (Some(value.into()), Some(threshold.into()));
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
    pub fn new(checks: Vec<HealthCheck>, checked_at: Timestamp) -> Self {
        let level = HealthLevel::worst(checks.iter().map(|check| check.level));
        Self { checked_at, level, checks }
    }
}
