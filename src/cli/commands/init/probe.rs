//! Try of a new source before anything is written: in a temporary folder, with its own
//! configuration and state.

use std::path::Path;

use secrecy::ExposeSecret as _;

use crate::app::context::AppContext;
use crate::app::error::ProgramError;
use crate::app::exit::ProgramExit;
use crate::cli::commands::config_probe::probe_once;
use crate::cli::commands::init::credential::{NewAuth, SecretInput};
use crate::cli::commands::init::interruption::{SignalCleanup, TemporaryFolder};
use crate::config::{EnvVars, LoadedConfig, Secret, load};
use crate::disk::{Disk, RealDisk, write_durable};
use crate::onboarding::{NewSource, new_config};

/// Prefix of the variables that override the configuration. Those of other sources would be unknown
/// in that of the new source alone.
const SETTING_PREFIX: &str = "CYNOSURE_";

/// Remedies that name settings, each with the options of `init` that take their place.
const OPTIONS_OF_SETTINGS: [(&str, &str); 4] = [
    (
        "set security = \"starttls\", or the `port` for TLS, usually 993",
        "run `init` again with --security starttls, or name the port for TLS in --server, usually \
         993",
    ),
    (
        "set security = \"tls\" and the `port` for it, usually 993",
        "run `init` again with --security tls, and name the port for it in --server, usually 993",
    ),
    ("(`url`, `base_url` or `host`); `cynosure config show` prints it", "(--server)"),
    ("(`url`, `base_url` or `host`)", "(--server)"),
];

/// Source to try, with its surroundings.
#[derive(Clone, Copy, Debug)]
pub(super) struct SourceTrial<'a> {
    pub environment: &'a EnvVars,
    pub cleanup: &'a SignalCleanup,
    /// Source without its authentication, which is added.
    pub source: &'a NewSource,
    /// Configuration to which the source is added, whose proxies are used. `None` for a new one.
    pub existing: Option<&'a LoadedConfig>,
}

impl SourceTrial<'_> {
    /// Logs in, lists the folders, fetches one message, and stores nothing.
    /// `refused_remedy` is the one for a credential that is refused.
    ///
    /// # Errors
    /// If the configuration would be invalid, and the failure of the probe with a remedy.
    pub(super) fn run(
        self,
        auth: &NewAuth,
        refused_remedy: &str,
    ) -> Result<TrialResult, ProgramError> {
        let folder = TemporaryFolder::create(self.environment, self.cleanup)?;
        let context = self.prepare(&folder, auth)?;
        let source = context.loaded.settings.find_source(&self.source.name)?;
        Ok(match probe_once(&context, source, refused_remedy) {
            Ok(_) => TrialResult::Works,
            Err(ProgramError::Message { exit: ProgramExit::Authentication, message }) => {
                TrialResult::Refused(message)
            }
            Err(ProgramError::Message { exit, message }) => {
                TrialResult::Failed(ProgramError::new(exit, with_options(&message)))
            }
            Err(error @ (ProgramError::Usage(_) | ProgramError::StdoutFailed(_))) => {
                TrialResult::Failed(error)
            }
        })
    }

    /// Writes the configuration and the credential into the temporary folder, and loads them.
    fn prepare(self, folder: &TemporaryFolder, auth: &NewAuth) -> Result<AppContext, ProgramError> {
        let folder = folder.path();
        let secret_file = match &auth.secret {
            Some(SecretInput::Typed(secret)) => {
                let path = folder.join("credential");
                write_secret(&path, secret)?;
                Some(path)
            }
            Some(SecretInput::File(path)) => Some(path.clone()),
            None => None,
        };
        let secret_file = secret_file.map(|path| path.display().to_string());
        let source = NewSource { auth: auth.written_auth(secret_file), ..self.source.clone() };
        let config_file = folder.join("config.toml");
        let text = new_config(&source, "downloads");
        write_durable(&RealDisk, &config_file, text.as_bytes())
            .map_err(|error| temporary_error(&config_file, &error))?;
        let environment = without_settings(self.environment);
        let mut loaded = load(&config_file, &environment).map_err(|diagnostics| {
            ProgramError::new(ProgramExit::Configuration, diagnostics.to_string())
        })?;
        if let Some(existing) = self.existing {
            loaded.settings.proxy = existing.settings.proxy.clone();
        }
        let state_dir = folder.join("state");
        Ok(AppContext { config_file, state_dir, environment, loaded, diagnostics: None })
    }
}

/// Result of a try.
#[derive(Debug)]
pub(super) enum TrialResult {
    Works,
    /// The credential is refused. The message has the response of the server.
    Refused(String),
    /// Any other failure.
    Failed(ProgramError),
}

/// Replaces settings in a message by options, because there is no configuration yet.
fn with_options(message: &str) -> String {
    let mut message = message.to_owned();
    for (setting, option) in OPTIONS_OF_SETTINGS {
        message = message.replace(setting, option);
    }
    message
}

fn write_secret(path: &Path, secret: &Secret) -> Result<(), ProgramError> {
    let write = || {
        let mut file = RealDisk.create_file(path)?;
        file.append(secret.expose_secret().as_bytes())
    };
    write().map_err(|error| temporary_error(path, &error))
}

fn temporary_error(path: &Path, error: &std::io::Error) -> ProgramError {
    let message = format!(
        "cannot write the temporary file {}: {error}; set TMPDIR to a folder that can be written",
        path.display()
    );
    ProgramError::new(ProgramExit::Other, message)
}

fn without_settings(environment: &EnvVars) -> EnvVars {
    let names = environment.names().filter(|name| !name.starts_with(SETTING_PREFIX));
    names.filter_map(|name| Some((name.to_owned(), environment.get(name)?.to_owned()))).collect()
}

#[cfg(test)]
mod tests {
    use cynosure_engine::Cause;

    use super::*;
    use crate::cli::commands::run_summary::address_remedy;

    #[test]
    fn remedies_name_options() {
        for cause in [Cause::NotFound, Cause::Connection] {
            let (_, remedy) = address_remedy(Some(cause));

            let remedy = with_options(remedy);

            assert!(remedy.ends_with("the address of the server (--server)"), "{remedy}");
        }
    }

    #[test]
    fn variables_of_other_sources_are_left_out() {
        let environment = EnvVars::from_iter([
            ("CYNOSURE_SOURCE_WORK_URL", "https://example.com"),
            ("CYNOSURE_LOG", "debug"),
            ("https_proxy", "http://127.0.0.1:3128"),
        ]);

        let kept = without_settings(&environment);

        assert_eq!(kept.names().collect::<Vec<_>>(), ["https_proxy"]);
    }
}
