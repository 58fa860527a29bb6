//! Selection of the sources that a process runs.

use crate::config::{Settings, SourceName};

/// Sources to run.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum SourceSelection {
    /// All enabled sources.
    AllEnabled(Vec<SourceName>),
    /// The sources named on the command line.
    Named(Vec<SourceName>),
}

impl SourceSelection {
    /// Selects the named sources, or all enabled ones if none is named.
    ///
    /// # Errors
    /// A message, if a source is not in the configuration, or if there is none to run.
    pub(crate) fn new(settings: &Settings, named: &[String]) -> Result<Self, String> {
        let selection = if named.is_empty() {
            Self::AllEnabled(settings.enabled_sources().cloned().collect())
        } else {
            let found =
                named.iter().map(|name| settings.find_source(name).map(|(name, _)| name.clone()));
            Self::Named(found.collect::<Result<_, _>>().map_err(|error| error.to_string())?)
        };
        if selection.names().is_empty() {
            return Err("there is no source to run; add a [source.NAME] table to the \
                        configuration, or enable one"
                .to_owned());
        }
        Ok(selection)
    }

    pub(crate) fn names(&self) -> &[SourceName] {
        match self {
            Self::AllEnabled(names) | Self::Named(names) => names,
        }
    }
}
