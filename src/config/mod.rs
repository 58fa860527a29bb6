//! Reads `config.toml`, in three stages: as written, merged, validated.
//!
//! A configuration is accepted or rejected as a whole. Every error in it is reported, with its
//! location, key and remedy. It holds no secrets: a [`CredentialRef`] names the place of one and
//! reads it on demand.

mod alert;
mod ask;
mod auth;
mod build;
mod credential;
mod diagnostic;
mod endpoint;
mod environment;
mod error_rules;
mod file;
mod folder;
mod health;
mod http_auth;
mod kind;
mod literal;
mod mail;
mod merge;
mod preset;
mod provider;
mod provider_defaults;
mod proxy;
mod ranges;
mod reader;
mod request;
mod retry;
mod service_url;
mod settings;
mod show;
mod sign_in;
mod source;
mod source_auth;
mod telemetry;

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

pub use self::alert::{AlertSettings, UrlOrSecret, WebhookSettings};
pub use self::credential::{
    CredentialError, CredentialErrorKind, CredentialRef, Secret, secrets_equal,
};
pub use self::diagnostic::Diagnostics;
pub use self::endpoint::EndpointSettings;
pub use self::environment::EnvVars;
pub use self::health::HealthSettings;
pub use self::kind::{
    DocumentFormatSettings, ImapSecurity, ImapSettings, JmapSettings, KindSettings, RestLimits,
    RestSettings, profile_error_rules,
};
pub use self::preset::{host_of_provider, provider_of_account, provider_of_host};
pub use self::provider::{ProviderSettings, RateLimitScope};
pub use self::proxy::{PoolProxy, ProxySettings};
pub use self::request::RequestSettings;
pub use self::retry::RetrySettings;
pub use self::settings::{
    ArchiveSettings, MonitorSettings, RestartSettings, ServiceSettings, Settings,
    UnknownSourceError,
};
pub use self::show::EffectiveSetting;
pub use self::source::{SourceName, SourceSettings};
pub use self::source_auth::{
    ApplicationGrantSettings, ApplicationSettings, OAuthSettings, SourceAuth,
};
pub use self::telemetry::{TelemetrySettings, parse_otlp_endpoint};

// Used to read other TOML files, such as scenarios.
pub(crate) use self::file::{Value, describe};
pub(crate) use self::merge::EnvValueForm;
pub(crate) use self::reader::{Section, read_single_file};

use self::merge::Layers;
use self::reader::Reader;

/// A valid configuration and where it came from.
#[derive(Clone, Debug, PartialEq)]
pub struct LoadedConfig {
    pub settings: Settings,
    /// Files that were read, the lowest layer first.
    pub files: Vec<PathBuf>,
    /// Every setting in effect, table by table.
    pub effective_settings: Vec<EffectiveSetting>,
}

impl LoadedConfig {
    /// Writes the effective configuration as TOML, each setting with its origin in a comment. It
    /// holds no secrets.
    #[must_use]
    pub fn to_toml(&self) -> String {
        show::to_toml(&self.effective_settings)
    }
}

/// Returns the configuration without any file: the defaults, and the variables of `environment`.
///
/// # Errors
///
/// All errors in the variables.
pub fn load_defaults(environment: &EnvVars) -> Result<LoadedConfig, Diagnostics> {
    load_layers(Layers::without_files(environment), PathBuf::new())
}

/// Reads the file at `path`, the files of `config.d` beside it, and the `CYNOSURE_*` variables of
/// `environment`.
///
/// A configuration without sources is valid. Relative paths in variables are resolved against the
/// folder of `path`.
///
/// # Errors
///
/// All errors at once: an unreadable file, wrong syntax, an unknown key or variable, an invalid
/// value.
pub fn load(path: &Path, environment: &EnvVars) -> Result<LoadedConfig, Diagnostics> {
    load_layers(Layers::read(path, environment)?, folder::absolute_folder(path))
}

/// Reads the same as [`load`] and continues after errors, for commands that only read. An invalid
/// setting has its default, and an invalid source is left out.
#[must_use]
pub fn load_lenient(path: &Path, environment: &EnvVars) -> (LoadedConfig, Option<Diagnostics>) {
    match Layers::read(path, environment) {
        Ok(layers) => load_layers_lenient(layers, folder::absolute_folder(path)),
        Err(diagnostics) => {
            let no_files = Layers::without_files(environment);
            (load_layers_lenient(no_files, folder::absolute_folder(path)).0, Some(diagnostics))
        }
    }
}

fn load_layers(layers: Layers<'_>, folder: PathBuf) -> Result<LoadedConfig, Diagnostics> {
    match load_layers_lenient(layers, folder) {
        (loaded, None) => Ok(loaded),
        (_, Some(diagnostics)) => Err(diagnostics),
    }
}

fn load_layers_lenient(layers: Layers<'_>, folder: PathBuf) -> (LoadedConfig, Option<Diagnostics>) {
    let mut reader = Reader::new(layers, folder);
    let settings = build::build_settings(&mut reader);
    let (files, effective_settings, diagnostics) = reader.finish();
    (LoadedConfig { settings, files, effective_settings }, diagnostics)
}
