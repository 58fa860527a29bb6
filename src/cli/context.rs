//! Where the configuration and the state are, by option, environment or habit.

use std::path::{Path, PathBuf};

use crate::cli::args::CommonArgs;
use crate::config::{Diagnostics, EnvVars, LoadedConfig, load, load_lenient};
use crate::worker::{LEDGER_FILE, LOCK_FILE, STATE_FILE};

/// Where the configuration is looked for, in this order.
const CONFIG_FILE_CANDIDATES: [&str; 2] = ["config.toml", "/etc/cynosure/config.toml"];

/// The folder that one source keeps its progress in.
#[must_use]
pub(super) fn source_dir(state_dir: &Path, source: &str) -> PathBuf {
    state_dir.join(source)
}

/// What a worker publishes about its source.
#[must_use]
pub(super) fn state_file(source_dir: &Path) -> PathBuf {
    source_dir.join(STATE_FILE)
}

/// What a worker remembers of its source.
#[must_use]
pub(super) fn ledger_file(source_dir: &Path) -> PathBuf {
    source_dir.join(LEDGER_FILE)
}

/// What a worker holds while it is at work.
#[must_use]
pub(super) fn lock_file(source_dir: &Path) -> PathBuf {
    source_dir.join(LOCK_FILE)
}

/// Finds the configuration file.
///
/// # Errors
/// When none was named and none is in the usual places: a sentence that says what to do.
pub(super) fn find_config_file(common: &CommonArgs) -> Result<PathBuf, String> {
    if let Some(path) = &common.config {
        return Ok(path.clone());
    }
    let usual = CONFIG_FILE_CANDIDATES.map(PathBuf::from);
    usual.into_iter().find(|path| path.exists()).ok_or_else(|| {
        format!(
            "there is no configuration: neither ./{} nor {} is there; name one with --config FILE, \
             or run `cynosure demo` to see the job without one",
            CONFIG_FILE_CANDIDATES[0], CONFIG_FILE_CANDIDATES[1]
        )
    })
}

/// Finds the folder that keeps the progress of all sources.
#[must_use]
pub(super) fn find_state_dir(
    common: &CommonArgs,
    config_file: &Path,
    environment: &EnvVars,
) -> PathBuf {
    if let Some(dir) = &common.state_dir {
        return dir.clone();
    }
    match environment.get("STATE_DIRECTORY") {
        Some(dir) if !dir.is_empty() => PathBuf::from(dir),
        Some(_) | None => config_file.parent().unwrap_or_else(|| Path::new("")).join("state"),
    }
}

/// Everything a command needs to find its way.
#[derive(Clone, Debug)]
pub(super) struct AppContext {
    pub config_file: PathBuf,
    pub state_dir: PathBuf,
    pub environment: EnvVars,
    pub loaded: LoadedConfig,
    /// What is wrong with the configuration, where that is read as far as it can be.
    pub diagnostics: Option<Diagnostics>,
}

impl AppContext {
    /// Finds and reads the configuration.
    ///
    /// # Errors
    /// Every mistake in it, as a person reads it.
    pub(super) fn load(common: &CommonArgs) -> Result<Self, String> {
        let environment = EnvVars::from_process();
        let config_file = find_config_file(common)?;
        let loaded = load(&config_file, &environment).map_err(|mistakes| mistakes.to_string())?;
        let state_dir = find_state_dir(common, &config_file, &environment);
        Ok(Self { config_file, state_dir, environment, loaded, diagnostics: None })
    }

    /// Finds the configuration and reads what can be read of it, for a command that only looks.
    ///
    /// # Errors
    /// A sentence where there is none.
    pub(super) fn load_partially(common: &CommonArgs) -> Result<Self, String> {
        let environment = EnvVars::from_process();
        let config_file = find_config_file(common)?;
        let (loaded, mistakes) = load_lenient(&config_file, &environment);
        let state_dir = find_state_dir(common, &config_file, &environment);
        Ok(Self { config_file, state_dir, environment, loaded, diagnostics: mistakes })
    }
}
