//! Settings of a provider that follow from its sources.

use std::fmt;

use cynosure_engine::rate_limit::Rate;

/// Settings of a provider that a source of it brings along. They fill what `[provider.NAME]` leaves
/// out.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct ProviderDefaults {
    pub(super) origin: DefaultsOrigin,
    /// Connections of one account.
    pub(super) connections: Option<u32>,
    /// Requests in flight at once.
    pub(super) concurrency: Option<u32>,
    /// Bytes that one account may download a day.
    pub(super) bytes_per_day: Option<u64>,
    /// Highest rate, in units.
    pub(super) cap: Option<Rate>,
    /// True if each account has a quota of its own.
    pub(super) is_per_account: bool,
}

/// Origin of defaults: a preset, a profile, or the tables of a source.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct DefaultsOrigin {
    pub(super) noun: &'static str,
    /// Empty for the tables of a source.
    name: String,
}

impl DefaultsOrigin {
    pub(super) fn preset(name: &str) -> Self {
        Self { noun: "preset", name: name.to_owned() }
    }

    pub(super) fn profile(name: &str) -> Self {
        Self { noun: "profile", name: name.to_owned() }
    }

    pub(super) fn own_tables() -> Self {
        Self { noun: "table", name: String::new() }
    }

    /// Names the origins of two sources.
    pub(super) fn name_both(&self, other: &Self) -> String {
        if self == other {
            format!("their {}s", self.noun)
        } else if self.noun == other.noun {
            format!("their {}s {} and {}", self.noun, self.name, other.name)
        } else {
            format!("{self} and {other}")
        }
    }
}

impl fmt::Display for DefaultsOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.name.is_empty() {
            return f.write_str("the tables of a source");
        }
        write!(f, "{} {}", self.noun, self.name)
    }
}
