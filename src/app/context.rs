//! Configuration and paths of the program: from options, environment variables or defaults.

use std::path::{Path, PathBuf};

use crate::app::error::ProgramError;
use crate::app::exit::ProgramExit;
use crate::config::{Diagnostics, EnvVars, LoadedConfig, load, load_lenient};
use crate::state::StateFolder;

/// Default paths of the configuration file, in the order in which they are tried.
const CONFIG_FILE_CANDIDATES: [&str; 2] = ["config.toml", "/etc/cynosure/config.toml"];

/// Paths given by the user, for which there are defaults.
#[derive(Clone, Debug)]
pub(crate) struct ConfigLocation {
    pub config_file: Option<PathBuf>,
    pub state_dir: Option<PathBuf>,
}

impl ConfigLocation {
    /// Finds the configuration file.
    ///
    /// # Errors
    /// A message with advice, if no file was given and none exists at the default paths.
    pub(crate) fn find_config_file(&self) -> Result<PathBuf, String> {
        if let Some(path) = &self.config_file {
            return Ok(path.clone());
        }
        let candidates = CONFIG_FILE_CANDIDATES.map(PathBuf::from);
        candidates.into_iter().find(|path| path.exists()).ok_or_else(|| {
            format!(
                "no configuration found: neither ./{} nor {} exists; run \
                 `cynosure init`, set it with --config FILE, or run `cynosure demo`, which needs none",
                CONFIG_FILE_CANDIDATES[0], CONFIG_FILE_CANDIDATES[1]
            )
        })
    }

    /// Returns the folder with the progress of all sources.
    #[must_use]
    pub(crate) fn find_state_dir(&self, config_file: &Path, environment: &EnvVars) -> PathBuf {
        if let Some(dir) = &self.state_dir {
            return dir.clone();
        }
        match environment.get("STATE_DIRECTORY") {
            Some(dir) if !dir.is_empty() => PathBuf::from(dir),
            Some(_) | None => config_file.parent().unwrap_or_else(|| Path::new("")).join("state"),
        }
    }
}

/// Configuration of the program, and the paths that it uses.
#[derive(Clone, Debug)]
pub(crate) struct AppContext {
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
    pub(crate) fn load(location: &ConfigLocation) -> Result<Self, ProgramError> {
        let environment = EnvVars::from_process();
        let config_file = location.find_config_file().map_err(config_error)?;
        let loaded = load(&config_file, &environment)
            .map_err(|diagnostics| config_error(diagnostics.to_string()))?;
        let state_dir = location.find_state_dir(&config_file, &environment);
        Ok(Self { config_file, state_dir, environment, loaded, diagnostics: None })
    }

    /// Finds the configuration and loads the valid parts of it, for a command that only reads.
    ///
    /// # Errors
    /// A message, if there is no configuration.
    pub(crate) fn load_partially(location: &ConfigLocation) -> Result<Self, ProgramError> {
        let environment = EnvVars::from_process();
        let config_file = location.find_config_file().map_err(config_error)?;
        let (loaded, diagnostics) = load_lenient(&config_file, &environment);
        let state_dir = location.find_state_dir(&config_file, &environment);
        Ok(Self { config_file, state_dir, environment, loaded, diagnostics })
    }

    /// Returns the reader of the state folder.
    #[must_use]
    pub(crate) fn state_folder(&self) -> StateFolder {
        StateFolder::new(&self.state_dir)
    }
}

fn config_error(message: String) -> ProgramError {
    ProgramError::new(ProgramExit::Configuration, message)
}
