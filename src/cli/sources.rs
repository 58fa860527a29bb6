//! The sources that a command is about: those of the configuration, and those that left a state behind.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::str::FromStr;

use crate::cli::args::CommonArgs;
use crate::cli::context::{AppContext, ledger_file, source_dir, state_file};
use crate::cli::error::CliError;
use crate::cli::exit::ProgramExit;
use crate::config::{self, SourceName};
use crate::disk::{Disk, RealDisk, storage_failure};
use crate::ledger::LedgerReader;

/// A source that can be asked about.
#[derive(Debug)]
pub(super) struct SourceRef {
    pub name: SourceName,
    /// Where it keeps its progress; not there before its first run.
    pub dir: PathBuf,
    /// What the configuration says of it; `None` where it is no longer in it.
    pub settings: Option<config::SourceSettings>,
    /// It may be in the configuration, of which not all can be read.
    pub is_config_uncertain: bool,
}

impl SourceRef {
    /// Opens its ledger; `None` where it has never run.
    ///
    /// # Errors
    /// When there is one that cannot be read.
    pub(super) fn open_ledger(&self) -> Result<Option<LedgerReader>, CliError> {
        Ok(LedgerReader::open(&ledger_file(&self.dir))?)
    }
}

/// Finds the configuration.
///
/// # Errors
/// A sentence for a person, with the code of a wrong configuration.
pub(super) fn load_context(common: &CommonArgs) -> Result<AppContext, CliError> {
    AppContext::load(common).map_err(|why| CliError::new(ProgramExit::Configuration, why))
}

/// All sources, by name.
///
/// # Errors
/// When the folder of their states cannot be read.
pub(super) fn all_sources(ground: &AppContext) -> Result<Vec<SourceRef>, CliError> {
    let mut found: BTreeMap<SourceName, Option<config::SourceSettings>> =
        unconfigured_sources(ground)?;
    for (name, settings) in &ground.loaded.settings.sources {
        found.insert(name.clone(), Some(settings.clone()));
    }
    let known = found.into_iter().map(|(name, settings)| {
        let dir = source_dir(&ground.state_dir, name.as_str());
        let is_unclear = settings.is_none() && ground.diagnostics.is_some();
        SourceRef { name, dir, settings, is_config_uncertain: is_unclear }
    });
    Ok(known.collect())
}

/// The source that was named, or all of them.
///
/// # Errors
/// When there is none of that name, neither in the configuration nor among the states.
pub(super) fn select_sources(
    ground: &AppContext,
    named: Option<&str>,
) -> Result<Vec<SourceRef>, CliError> {
    let mut known = all_sources(ground)?;
    if let Some(name) = named {
        known.retain(|source| source.name.as_str() == name);
        if known.is_empty() {
            ground.loaded.settings.find_source(name)?;
        }
    }
    Ok(known)
}

/// The folders that hold the progress of a source, whoever wrote it.
fn unconfigured_sources(
    ground: &AppContext,
) -> Result<BTreeMap<SourceName, Option<config::SourceSettings>>, CliError> {
    let dir = &ground.state_dir;
    let listed = match RealDisk.list_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        listed => listed.map_err(|error| storage_failure("read the folder", dir, &error))?,
    };
    let names = listed.iter().filter_map(|entry| SourceName::from_str(entry.to_str()?).ok());
    let with_progress = names.filter(|name| {
        let dir = source_dir(dir, name.as_str());
        state_file(&dir).exists() || ledger_file(&dir).exists()
    });
    Ok(with_progress.map(|name| (name, None)).collect())
}
