//! Profile of a REST source whose error rules are tried: the one that is named, or that of the
//! source.

use cynosure_engine::RequestScope;
use cynosure_engine::rest::{ProfileErrorRule, ProfileRules, TableName};

use crate::app::error::ProgramError;
use crate::app::exit::ProgramExit;
use crate::config::{self, Settings, SourceSettings};

/// Error rules of a profile.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct ExplainedProfile {
    /// Name of a built-in profile, or path of its file; `None` if the source declares the tables
    /// itself.
    pub name: Option<String>,
    pub rules: Vec<ProfileErrorRule>,
}

impl ExplainedProfile {
    /// Returns a built-in profile, or the one in a file.
    ///
    /// # Errors
    /// If there is no such profile, or its rules are invalid.
    pub(super) fn named(name: &str) -> Result<Self, ProgramError> {
        let rules = config::profile_error_rules(name)
            .map_err(|message| ProgramError::new(ProgramExit::Configuration, message))?;
        Ok(Self { name: Some(name.to_owned()), rules })
    }

    /// Returns the profile of a source; `None` if its kind has none.
    pub(super) fn of_source(source: &SourceSettings) -> Option<Self> {
        let profile = &source.kind.rest()?.profile;
        Some(Self { name: profile.name.clone(), rules: profile.errors.clone() })
    }

    /// Returns the profile of all sources of a provider; `None` if there is none, or several.
    pub(super) fn of_provider(settings: &Settings, provider: &str) -> Option<Self> {
        let mut profiles = profiles_of(settings, Some(provider));
        let first = profiles.next()?;
        profiles.all(|other| other == first).then_some(first)
    }

    /// Returns the provider of all sources with this profile; `None` if there is none, or several.
    pub(super) fn provider(&self, settings: &Settings) -> Option<String> {
        let has_profile = |source: &&SourceSettings| {
            Self::of_source(source).is_some_and(|of| of.name == self.name)
        };
        let mut providers =
            settings.sources.values().filter(has_profile).map(|source| &source.provider);
        let first = providers.next()?;
        providers.all(|other| other == first).then(|| first.clone())
    }

    /// Returns the rules for the response to a request of a table.
    pub(super) fn rules_for(&self, table: TableName) -> ProfileRules<'_> {
        ProfileRules { rules: &self.rules, table }
    }

    /// Returns the tables that some rules are limited to, and that are none of `tried`.
    pub(super) fn other_tables(&self, tried: &[TableName]) -> Vec<TableName> {
        let limited = self.rules.iter().filter(|rule| {
            !rule.tables.is_empty() && !rule.tables.iter().any(|table| tried.contains(table))
        });
        let mut tables: Vec<TableName> =
            limited.flat_map(|rule| rule.tables.iter().copied()).collect();
        tables.sort_unstable();
        tables.dedup();
        tables
    }
}

/// True if sources have profiles with rules: those of the provider, or any if none is selected.
pub(super) fn has_profile_rules(settings: &Settings, provider: Option<&str>) -> bool {
    profiles_of(settings, provider).any(|profile| !profile.rules.is_empty())
}

/// Returns the profiles of the sources of a provider, or of all sources.
fn profiles_of<'s>(
    settings: &'s Settings,
    provider: Option<&'s str>,
) -> impl Iterator<Item = ExplainedProfile> + 's {
    let sources = settings.sources.values();
    let of_provider =
        sources.filter(move |source| provider.is_none_or(|provider| source.provider == provider));
    of_provider.filter_map(ExplainedProfile::of_source)
}

/// Returns the table whose requests have a scope, unless another one is named.
pub(super) fn default_table(scope: RequestScope) -> TableName {
    match scope {
        RequestScope::Item => TableName::Fetch,
        RequestScope::Listing => TableName::List,
        RequestScope::Session => TableName::Account,
    }
}

/// Returns the scope of the requests of a table.
pub(super) fn scope_of(table: TableName) -> RequestScope {
    match table {
        TableName::Fetch => RequestScope::Item,
        TableName::Account => RequestScope::Session,
        TableName::Pin
        | TableName::Parts
        | TableName::Folders
        | TableName::List
        | TableName::Documents
        | TableName::Changes
        | TableName::Sweep => RequestScope::Listing,
    }
}

#[cfg(test)]
mod tests {
    use cynosure_engine::Cause;

    use super::*;

    fn rule(tables: &[TableName]) -> ProfileErrorRule {
        ProfileErrorRule {
            tables: tables.to_vec(),
            statuses: Vec::new(),
            values: Vec::new(),
            cause: Cause::Server,
            wait: None,
            message: None,
            reported_wait: None,
            location: String::new(),
        }
    }

    #[test]
    fn every_scope_has_a_table_of_its_own() {
        for scope in [RequestScope::Item, RequestScope::Listing, RequestScope::Session] {
            assert_eq!(scope_of(default_table(scope)), scope);
        }
    }

    #[test]
    fn rules_that_are_not_tried_are_found_by_their_tables() {
        let (list, changes, pin) = (TableName::List, TableName::Changes, TableName::Pin);
        let rules =
            vec![rule(&[]), rule(&[list, changes]), rule(&[changes, pin]), rule(&[changes])];
        let profile = ExplainedProfile { name: None, rules };

        assert_eq!(profile.other_tables(&[list]), [pin, changes]);
        assert!(profile.other_tables(&[changes]).is_empty());
    }
}
