//! What is amiss at one moment.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::engine::alert::Severity;

/// Why there is an alert: two stable words, as in `system.disk_full`.
#[derive(Clone, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
pub struct AlertKey(String);

/// Something that is amiss, about one thing.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct AlertCondition {
    pub key: AlertKey,
    pub subject: String,
    pub severity: Severity,
    /// One sentence, without its subject.
    pub message: String,
    pub advice: Option<String>,
}

impl AlertCondition {
    /// Whether the two have one cause.
    #[must_use]
    pub fn has_same_key(&self, other: &Self) -> bool {
        self.key == other.key && self.subject == other.subject
    }
}

impl AlertKey {
    /// What was found by whom: a check, or another that looks.
    #[must_use]
    pub fn new(by: &str, finding: &str) -> Self {
        Self(format!("{by}.{finding}"))
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Who finds it.
    #[must_use]
    pub fn component(&self) -> &str {
        self.0.split('.').next().unwrap_or_default()
    }
}

impl fmt::Display for AlertKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
