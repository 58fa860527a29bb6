//! Alert conditions: problems that exist at one moment.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::engine::alert::Severity;

/// Identity of an alert's cause: component and finding, as in `system.disk_full`.
#[derive(Clone, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
pub struct AlertKey(String);

/// One problem of one subject.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct AlertCondition {
    pub key: AlertKey,
    pub subject: String,
    pub severity: Severity,
    /// One sentence, without the subject.
    pub message: String,
    pub advice: Option<String>,
}

impl AlertCondition {
    /// Returns true if key and subject are equal.
    #[must_use]
    pub fn has_same_key(&self, other: &Self) -> bool {
        self.key == other.key && self.subject == other.subject
    }
}

impl AlertKey {
    /// Creates a key from the component that detects the problem, such as a check, and the finding.
    #[must_use]
    pub fn new(component: &str, finding: &str) -> Self {
        Self(format!("{component}.{finding}"))
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the component that detects the problem.
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
