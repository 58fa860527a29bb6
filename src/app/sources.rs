//! Sources that a command can select: configured ones, and removed ones with saved progress.

use std::collections::BTreeMap;
use std::io;
use std::str::FromStr;

use crate::app::context::AppContext;
use crate::app::error::ProgramError;
use crate::config::{self, SourceName};
use crate::disk::{Disk, RealDisk, storage_failure};
use crate::ledger::{LedgerReports, SqliteLedger};
use crate::state::SourceFolder;

/// Source that a command can select.
#[derive(Debug)]
pub(crate) struct SourceRef {
    pub name: SourceName,
    pub folder: SourceFolder,
    /// Settings; `None` if it is not in the configuration.
    pub settings: Option<config::SourceSettings>,
    /// True if it may be in an invalid part of the configuration, which was not loaded.
    pub is_config_uncertain: bool,
}

impl SourceRef {
    /// Opens the ledger; `None` if the source has never run.
    ///
    /// # Errors
    /// If the ledger exists and cannot be read.
    pub(crate) fn open_ledger(&self) -> Result<Option<Box<dyn LedgerReports>>, ProgramError> {
        let ledger = SqliteLedger::open_read_only(&self.folder.ledger_file())?;
        Ok(ledger.map(|ledger| Box::new(ledger) as Box<dyn LedgerReports>))
    }
}

/// Returns all sources, in the order of their names.
///
/// # Errors
/// If the state folder cannot be read.
pub(crate) fn all_sources(context: &AppContext) -> Result<Vec<SourceRef>, ProgramError> {
    let mut by_name: BTreeMap<SourceName, Option<config::SourceSettings>> =
        sources_with_progress(context)?;
    for (name, settings) in &context.loaded.settings.sources {
        by_name.insert(name.clone(), Some(settings.clone()));
    }
    let sources = by_name.into_iter().map(|(name, settings)| {
        let folder = context.state_folder().source(name.as_str());
        let is_config_uncertain = settings.is_none() && context.diagnostics.is_some();
        SourceRef { name, folder, settings, is_config_uncertain }
    });
    Ok(sources.collect())
}

/// Returns the source with this name, or all sources if no name is given.
///
/// # Errors
/// If the source is not in the configuration and has no progress.
pub(crate) fn select_sources(
    context: &AppContext,
    name: Option<&str>,
) -> Result<Vec<SourceRef>, ProgramError> {
    let mut sources = all_sources(context)?;
    if let Some(name) = name {
        sources.retain(|source| source.name.as_str() == name);
        if sources.is_empty() {
            context.loaded.settings.find_source(name)?;
        }
    }
    Ok(sources)
}

/// Returns the sources with saved progress, configured or not, each without settings.
fn sources_with_progress(
    context: &AppContext,
) -> Result<BTreeMap<SourceName, Option<config::SourceSettings>>, ProgramError> {
    let dir = &context.state_dir;
    let listed = match RealDisk.list_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        listed => listed.map_err(|error| storage_failure("read the folder", dir, &error))?,
    };
    let names = listed.iter().filter_map(|entry| SourceName::from_str(entry.to_str()?).ok());
    let folder = context.state_folder();
    let with_progress = names.filter(|name| folder.source(name.as_str()).has_progress());
    Ok(with_progress.map(|name| (name, None)).collect())
}
