//! Configuration of a service, as its units will read it: without the variables of this shell.

use std::path::{Path, PathBuf};

use crate::app::context::ConfigLocation;
use crate::app::error::ProgramError;
use crate::app::exit::ProgramExit;
use crate::config::{EnvVars, LoadedConfig, Settings, load, load_lenient};

/// Folder of the credentials that the units of the system load.
const CREDENTIAL_DIR: &str = "/etc/cynosure/credentials";

/// Begin of a reference to a credential of systemd, as the effective configuration writes it.
const SYSTEMD_CREDENTIAL: &str = "{ systemd = \"";

/// Begin of a path in a home folder, as the effective configuration writes it.
const HOME_PATHS: [&str; 2] = ["\"/home/", "\"/root/"];

/// Configuration of a service, and its paths. They are absolute.
#[derive(Clone, Debug)]
pub(super) struct ServiceConfig {
    pub config_file: PathBuf,
    /// May not exist yet.
    pub state_dir: PathBuf,
    pub loaded: LoadedConfig,
}

impl ServiceConfig {
    /// Finds and loads the configuration, which must have something to extract.
    ///
    /// # Errors
    /// A message with advice, or with all errors of the configuration.
    pub(super) fn load(location: &ConfigLocation) -> Result<Self, ProgramError> {
        let config_file = location.find_config_file().ok().filter(|path| path.exists());
        let config_file = config_file.ok_or_else(|| {
            let named = location.config_file.as_deref();
            let missing = named.map(|path| format!(": {} does not exist", path.display()));
            config_error(format!(
                "there is no configuration to run{}; write one with `cynosure init`, or name it \
                 with --config FILE",
                missing.unwrap_or_default()
            ))
        })?;
        let config_file = to_absolute(&config_file)?;
        let loaded = load(&config_file, &EnvVars::default())
            .map_err(|diagnostics| config_error(diagnostics.to_string()))?;
        if loaded.settings.enabled_sources().next().is_none() {
            return Err(config_error(format!(
                "{} has no enabled source: a service would have nothing to do; add a source with \
                 `cynosure init`",
                config_file.display()
            )));
        }
        check_service_name(&loaded.settings.service.service_name)?;
        let state_dir = find_state_dir(location, &config_file)?;
        Ok(Self { config_file, state_dir, loaded })
    }

    /// Finds what can be known of a configuration, which may be gone or have mistakes.
    ///
    /// # Errors
    /// If the name of the service is that of no unit, or the working directory is unknown.
    pub(super) fn load_partially(location: &ConfigLocation) -> Result<Self, ProgramError> {
        let config_file = location.find_config_file().unwrap_or_else(|_| "config.toml".into());
        let config_file = to_absolute(&config_file)?;
        let (loaded, _) = load_lenient(&config_file, &EnvVars::default());
        check_service_name(&loaded.settings.service.service_name)?;
        let state_dir = find_state_dir(location, &config_file)?;
        Ok(Self { config_file, state_dir, loaded })
    }

    #[must_use]
    pub(super) fn settings(&self) -> &Settings {
        &self.loaded.settings
    }

    #[must_use]
    pub(super) fn service_name(&self) -> &str {
        &self.settings().service.service_name
    }

    /// True if a setting names a file in a home folder.
    #[must_use]
    pub(super) fn names_home_file(&self) -> bool {
        self.has_value_with(&HOME_PATHS)
    }

    /// True if the units need the folder of credentials.
    ///
    /// # Errors
    /// A message, if the configuration names credentials of systemd and there is no such folder.
    pub(super) fn uses_credential_folder(&self) -> Result<bool, ProgramError> {
        if !self.names_systemd_credential() {
            return Ok(false);
        }
        if Path::new(CREDENTIAL_DIR).is_dir() {
            return Ok(true);
        }
        Err(config_error(format!(
            "the configuration names a credential of systemd, and {CREDENTIAL_DIR} does not \
             exist; put the credential there, or name a file instead"
        )))
    }

    /// True if a setting names a credential of systemd.
    #[must_use]
    pub(super) fn names_systemd_credential(&self) -> bool {
        self.has_value_with(&[SYSTEMD_CREDENTIAL])
    }

    /// Returns the folders of the token files that are outside of the state folder.
    #[must_use]
    pub(super) fn token_folders(&self) -> Vec<PathBuf> {
        let sources = self.settings().sources.values();
        let files =
            sources.filter_map(|source| source.auth.sign_in_client()?.token_file.as_deref());
        let folders = files.filter_map(Path::parent).filter(|folder| folder.is_dir());
        folders.map(Path::to_owned).collect()
    }

    fn has_value_with(&self, parts: &[&str]) -> bool {
        let settings = &self.loaded.effective_settings;
        let mut values = settings.iter().filter_map(|setting| setting.toml_value.as_deref());
        values.any(|value| parts.iter().any(|part| value.contains(part)))
    }
}

/// Returns an error of the configuration.
pub(super) fn config_error(message: impl Into<String>) -> ProgramError {
    ProgramError::new(ProgramExit::Configuration, message)
}

/// Returns a path that does not depend on the working directory.
pub(super) fn to_absolute(path: &Path) -> Result<PathBuf, ProgramError> {
    std::path::absolute(path).map_err(|error| {
        let message = format!("cannot find the folder of {}: {error}", path.display());
        ProgramError::new(ProgramExit::Other, message)
    })
}

fn find_state_dir(location: &ConfigLocation, config_file: &Path) -> Result<PathBuf, ProgramError> {
    to_absolute(&location.find_state_dir(config_file, &EnvVars::default()))
}

fn check_service_name(name: &str) -> Result<(), ProgramError> {
    // `systemctl` would read a name that begins with a hyphen as options.
    if !name.is_empty() && !name.contains('@') && !name.starts_with(['.', '-']) {
        return Ok(());
    }
    Err(config_error(format!(
        "service.service_name is {name:?}, which is not the name of a unit that this command can \
         write; use a name without @ that begins with a letter, such as \"cynosure\""
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn location_of(dir: &Path) -> ConfigLocation {
        ConfigLocation { config_file: Some(dir.join("config.toml")), state_dir: None }
    }

    #[expect(clippy::unwrap_in_result, reason = "a helper of tests panics")]
    fn load_text(text: &str) -> Result<ServiceConfig, String> {
        let dir = tempfile::tempdir().unwrap();
        fs_err::write(dir.path().join("config.toml"), text).unwrap();
        ServiceConfig::load(&location_of(dir.path())).map_err(|error| error.message())
    }

    fn source_with(auth: &str) -> String {
        format!(
            "[source.work]\nkind = \"jmap\"\nurl = \"https://mail.example.com/.well-known/jmap\"\n\
             account = \"me@example.com\"\nauth = {auth}\n"
        )
    }

    const TOKEN_FILE: &str = "{ type = \"bearer\", token = { file = \"token\" } }";

    #[test]
    fn the_paths_of_a_service_are_absolute() {
        let config = load_text(&source_with(TOKEN_FILE)).unwrap();

        assert!(config.config_file.is_absolute());
        assert_eq!(config.state_dir, config.config_file.with_file_name("state"));
        assert_eq!(config.service_name(), "cynosure");
    }

    #[test]
    fn a_missing_configuration_names_the_command_that_writes_one() {
        let dir = tempfile::tempdir().unwrap();

        let error = ServiceConfig::load(&location_of(dir.path())).unwrap_err();

        assert!(error.message().contains("`cynosure init`"), "{error:?}");
        let ProgramError::Message { exit, .. } = error else { panic!("it has an exit code") };
        assert_eq!(exit.code(), 78);
    }

    #[test]
    fn a_configuration_without_work_or_with_mistakes_is_refused() {
        assert!(load_text("").unwrap_err().contains("no enabled source"));
        assert!(load_text("[restart]\nmax_retires = 3\n").unwrap_err().contains("max_retries"));
        for name in ["cynosure@work", "-H", ".cynosure"] {
            let service = format!("[service]\nservice_name = \"{name}\"\n");
            let error = load_text(&(source_with(TOKEN_FILE) + &service)).unwrap_err();
            assert!(error.contains("without @"), "{name}: {error}");
        }
    }

    #[test]
    fn files_and_credentials_of_the_settings_are_found() {
        let plain = load_text(&source_with(TOKEN_FILE)).unwrap();
        assert!(!plain.names_systemd_credential());
        assert!(!plain.names_home_file() || std::env::temp_dir().starts_with("/home"));
        let home = source_with("{ type = \"bearer\", token = { file = \"/home/me/token\" } }");
        assert!(load_text(&home).unwrap().names_home_file());
        let systemd = source_with("{ type = \"bearer\", token = { systemd = \"token_work\" } }");
        assert!(load_text(&systemd).unwrap().names_systemd_credential());
    }

    #[test]
    fn a_configuration_that_is_gone_leaves_the_default_name() {
        let dir = tempfile::tempdir().unwrap();

        let config = ServiceConfig::load_partially(&location_of(dir.path())).unwrap();

        assert_eq!(config.service_name(), "cynosure");
    }
}
