//! Keys of alerts.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::health::{CheckKind, Finding};

/// Identity of an alert's cause: check and kind of finding, as in `system.disk_full`.
#[derive(Clone, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
pub struct AlertKey(String);

impl AlertKey {
    /// Creates a key from the check that detects the problem, and the kind of its finding.
    #[must_use]
    pub fn new(check: CheckKind, kind: &str) -> Self {
        Self(format!("{}.{kind}", check.name()))
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the name of the check that detects the problem.
    #[must_use]
    pub fn check_name(&self) -> &str {
        self.0.split('.').next().unwrap_or_default()
    }
}

impl From<&Finding> for AlertKey {
    fn from(finding: &Finding) -> Self {
        Self::new(finding.check, &finding.kind)
    }
}

impl fmt::Display for AlertKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
