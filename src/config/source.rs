//! One account to extract: `[source.NAME]`.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use super::kind::KindSettings;
use super::source_auth::SourceAuth;

/// Longest name of a source, in bytes: it is part of file names and of tables in the terminal.
const NAME_LEN_MAX: usize = 64;

/// The name of a source: `[a-z0-9][a-z0-9_-]{0,63}`.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct SourceName(String);

impl SourceName {
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for SourceName {
    type Err = &'static str;

    /// # Errors
    ///
    /// If the text is not a valid name. The error states the rule.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_inner =
            |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-".contains(&byte);
        let has_valid_start = !text.starts_with(['_', '-']) && !text.is_empty();
        if has_valid_start && text.len() <= NAME_LEN_MAX && text.bytes().all(is_inner) {
            Ok(Self(text.to_owned()))
        } else {
            Err("a source's name is 1 to 64 of a-z, 0-9, _ and -, \
                 and starts with a letter or digit")
        }
    }
}

impl fmt::Display for SourceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl Borrow<str> for SourceName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

/// Settings of a source: those of every kind, and those of its own kind.
#[derive(Clone, Debug, PartialEq)]
pub struct SourceSettings {
    pub kind: KindSettings,
    /// Owner of the mail. It names the folder in the archive.
    pub account: String,
    /// Operator of the server. Sources of one provider share its rate limiter and circuit breaker.
    pub provider: String,
    pub auth: SourceAuth,
    pub poll_interval: Duration,
    /// Interval between full listings.
    pub reconcile_interval: Duration,
    pub is_enabled: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_lower_case_letters_digits_dash_and_underscore() {
        for name in ["work", "a", "7", "my-work_2", &"a".repeat(64)] {
            assert_eq!(
                name.parse::<SourceName>().map(|name| name.to_string()),
                Ok(name.to_owned())
            );
        }
        for name in ["", "Work", "-a", "_a", "a b", "a.b", "../a", "é", &"a".repeat(65)] {
            assert!(name.parse::<SourceName>().is_err(), "{name}");
        }
    }
}
