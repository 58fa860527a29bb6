//! Levels of findings.

use serde::{Deserialize, Serialize};

/// Level of a finding, in ascending order. `Unknown` ranks between `Warning` and `Critical`,
/// because the unknown state may be critical.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum HealthLevel {
    /// Not checked, because the check does not apply here. Counts for nothing.
    Skipped,
    Healthy,
    Warning,
    Unknown,
    Critical,
}

impl HealthLevel {
    pub const ALL: [Self; 5] =
        [Self::Skipped, Self::Healthy, Self::Warning, Self::Unknown, Self::Critical];

    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Skipped => "SKIPPED",
            Self::Healthy => "HEALTHY",
            Self::Warning => "WARNING",
            Self::Unknown => "UNKNOWN",
            Self::Critical => "CRITICAL",
        }
    }

    /// Returns the worst of the levels; unknown if no check could be made.
    #[must_use]
    pub fn worst(levels: impl Iterator<Item = Self>) -> Self {
        levels.filter(|level| *level != Self::Skipped).max().unwrap_or(Self::Unknown)
    }

    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|level| level.name() == name)
    }
}
