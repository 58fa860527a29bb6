//! Findings: level, subject, message, and the value that decided.

use serde::{Deserialize, Serialize};

use crate::health::HealthLevel;
use crate::{Timestamp, sanitize_line};

/// Kind of a finding of a check that could not be made.
pub(crate) const UNKNOWN: &str = "unknown";

/// Kind of a finding about a unit or source that restarts too often.
pub(crate) const CRASH_LOOP: &str = "crash_loop";

/// Kind of a finding about a session that takes too long.
pub(crate) const SESSION_TOO_LONG: &str = "too_long";

/// Kind of a finding about a source that its unit is starting, or has just started.
pub(crate) const STARTING: &str = "starting";

/// Kinds of findings about a unit that systemd does not have, or whose state is not known.
pub(crate) const NO_SYSTEMD: &str = "no_systemd";
pub(crate) const UNIT_NOT_INSTALLED: &str = "unit_not_installed";
pub(crate) const UNIT_STATE_UNKNOWN: &str = "unit_state_unknown";

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
    /// Usability of each provider. This check and the next ones are not in the report: their
    /// findings only raise alerts.
    Provider,
    /// Storage of documents by all sources.
    Storage,
    /// Quarantined items of each source.
    Quarantine,
    /// Delivery to each alert channel.
    Channel,
    /// The monitor itself.
    Monitor,
}

/// Result of one check of one subject.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Finding {
    #[serde(rename = "name")]
    pub check: CheckKind,
    /// Stable identifier of the result: `overdue`, `disk_full` and so on.
    #[serde(rename = "finding")]
    pub kind: String,
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
    /// Not in files, because it is decided in the cycle that made the finding.
    #[serde(skip)]
    pub remedy: Remedy,
}

/// Action of the monitor that is likely to help.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Remedy {
    Restart,
    /// The worker recovers by itself, or manual intervention is required.
    #[default]
    None,
}

/// All findings of one evaluation.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct HealthCheckReport {
    #[serde(rename = "looked_at")]
    pub checked_at: Timestamp,
    /// Worst level of all findings; unknown without any.
    pub level: HealthLevel,
    #[serde(rename = "checks")]
    pub findings: Vec<Finding>,
}

impl CheckKind {
    pub const ALL: [Self; 13] = [
        Self::Service,
        Self::Execution,
        Self::Heartbeat,
        Self::Sources,
        Self::Clients,
        Self::Proxies,
        Self::System,
        Self::Journal,
        Self::Provider,
        Self::Storage,
        Self::Quarantine,
        Self::Channel,
        Self::Monitor,
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
            Self::Provider => "provider",
            Self::Storage => "storage",
            Self::Quarantine => "quarantine",
            Self::Channel => "channel",
            Self::Monitor => "monitor",
        }
    }
}

impl Finding {
    /// Creates a finding without subject, value, threshold, advice and remedy.
    #[must_use]
    pub fn new(
        check: CheckKind,
        kind: &str,
        level: HealthLevel,
        message: impl Into<String>,
    ) -> Self {
        Self {
            check,
            kind: kind.to_owned(),
            subject: String::new(),
            level,
            message: message.into(),
            value: None,
            threshold: None,
            advice: None,
            remedy: Remedy::None,
        }
    }

    /// Creates the finding of a check that could not be made, with the reason.
    #[must_use]
    pub fn unknown(check: CheckKind, reason: &str) -> Self {
        Self::new(
            check,
            UNKNOWN,
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

    /// Returns the message with the measured value, if there is one.
    #[must_use]
    pub fn message_with_value(&self) -> String {
        match &self.value {
            Some(value) => format!("{} ({value})", self.message),
            None => self.message.clone(),
        }
    }

    /// Returns true if check, kind and subject are equal.
    #[must_use]
    pub fn has_same_cause(&self, other: &Self) -> bool {
        (self.check, &self.kind, &self.subject) == (other.check, &other.kind, &other.subject)
    }

    /// Returns true if it is about a unit that has a journal, because systemd knows the unit.
    #[must_use]
    pub fn is_about_known_unit(&self) -> bool {
        self.check == CheckKind::Service
            && ![NO_SYSTEMD, UNIT_NOT_INSTALLED, UNIT_STATE_UNKNOWN].contains(&self.kind.as_str())
    }
}

impl HealthCheckReport {
    #[must_use]
    pub fn new(findings: Vec<Finding>, checked_at: Timestamp) -> Self {
        let level = HealthLevel::worst(findings.iter().map(|finding| finding.level));
        Self { checked_at, level, findings }
    }
}
