//! Configuration and paths of a command: from options, environment variables or defaults.

use std::path::{Path, PathBuf};

use crate::cli::args::CommonArgs;
use crate::config::{Diagnostics, EnvVars, LoadedConfig, load, load_lenient};
use crate::state::StateFolder;

/// Default paths of the configuration file, in the order in which they are tried.
const CONFIG_FILE_CANDIDATES: [&str; 2] = ["config.toml", "/etc/cynosure/config.toml"];

/// Finds the configuration file.
///
/// # Errors
/// A message with advice, if no file was given and none exists at the default paths.
pub(super) fn find_config_file(common: &CommonArgs) -> Result<PathBuf, String> {
    if let Some(path) = &common.config {
        return Ok(path.clone());
    }
    let candidates = CONFIG_FILE_CANDIDATES.map(PathBuf::from);
    candidates.into_iter().find(|path| path.exists()).ok_or_else(|| {
        format!(
            "no configuration found: neither ./{} nor {} exists; set it with --config FILE, or run \
             `cynosure demo`, which needs none",
            CONFIG_FILE_CANDIDATES[0], CONFIG_FILE_CANDIDATES[1]
        )
    })
}

/// Returns the folder with the progress of all sources.
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

/// Configuration of a command, and the paths that it uses.
#[derive(Clone, Debug)]
pub(super) struct AppContext {
    pub config_file: PathBuf,
    pub state_dir: PathBuf,
    pub environment: EnvVars,
    pub loaded: LoadedConfig,
    /// Errors of the configuration, if it was loaded partially.
    pub diagnostics: Option<Diagnostics>,
}

impl AppContext {
    /// Finds and loads the configuration.
    ///
    /// # Errors
    /// A message with all errors of the configuration.
    pub(super) fn load(common: &CommonArgs) -> Result<Self, String> {
        let environment = EnvVars::from_process();
        let config_file = find_config_file(common)?;
        let loaded = load(&config_file, &environment).map_err(|errors| errors.to_string())?;
        let state_dir = find_state_dir(common, &config_file, &environment);
        Ok(Self { config_file, state_dir, environment, loaded, diagnostics: None })
    }

    /// Finds the configuration and loads the valid parts of it, for a command that only reads.
    ///
    /// # Errors
    /// A message, if there is no configuration.
    pub(super) fn load_partially(common: &CommonArgs) -> Result<Self, String> {
        let environment = EnvVars::from_process();
        let config_file = find_config_file(common)?;
        let (loaded, diagnostics) = load_lenient(&config_file, &environment);
        let state_dir = find_state_dir(common, &config_file, &environment);
        Ok(Self { config_file, state_dir, environment, loaded, diagnostics })
    }

    /// Returns the reader of the state folder.
    #[must_use]
    pub(super) fn state_folder(&self) -> StateFolder {
        StateFolder::new(&self.state_dir)
    }
}
