//! Reads `config.toml`, in three stages: as written, merged, validated.
//!
//! A configuration is good as a whole or refused as a whole, with every mistake in it named by place, key and remedy.
//! Secrets are never in it; a [`CredentialRef`] says where one is, and reads it when asked.

mod alert;
mod ask;
mod auth;
mod build;
mod credential;
mod endpoint;
mod environment;
mod error_rules;
mod file;
mod health;
mod mail;
mod merge;
mod mistake;
mod place;
mod provider;
mod proxy;
mod reader;
mod retry;
mod settings;
mod show;
mod source;
mod suggest;
mod telemetry;
mod units;

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

pub use self::alert::{Address, Alert, Webhook};
pub use self::credential::{CredentialError, CredentialRef, Problem, Secret, same};
pub use self::endpoint::Endpoint;
pub use self::environment::Environment;
pub use self::health::Health;
pub use self::mistake::{Mistake, Mistakes};
pub use self::place::Place;
pub use self::provider::{Provider, Route, SharedBy};
pub use self::proxy::{PoolProxy, Proxy};
pub use self::retry::Retry;
pub use self::settings::{
    Archive, Backoff, BackoffBase, Breaker, Item, Monitor, Request, Restart, Service, Settings,
    UnknownSource,
};
pub use self::show::Entry;
pub use self::source::{Auth, Kind, Source, SourceName};
pub use self::suggest::nearest;
pub use self::telemetry::{Telemetry, collector};
pub use self::units::{parse_duration, write_duration};

// What other files of ours are read with.
pub(crate) use self::ask::describe;
pub(crate) use self::file::{Node, Table, Value, parse};

use self::merge::Layers;
use self::reader::Reader;

/// A valid configuration and where it came from.
#[derive(Clone, Debug, PartialEq)]
pub struct Loaded {
    pub settings: Settings,
    /// The files that were read, the lowest layer first.
    pub files: Vec<PathBuf>,
    /// Every setting in effect, table by table.
    pub entries: Vec<Entry>,
}

impl Loaded {
    /// Writes the effective configuration as TOML, each setting with its origin in a comment. It holds no secrets.
    #[must_use]
    pub fn show(&self) -> String {
        show::show(&self.entries)
    }
}

/// Returns what is in effect without any file: the defaults, and the variables of `environment`.
///
/// # Errors
///
/// Every mistake in the variables.
pub fn defaults(environment: &Environment) -> Result<Loaded, Mistakes> {
    build(Layers::without_files(environment), PathBuf::new())
}

/// Reads the file at `path`, the files of `config.d` beside it, and the `CYNOSURE_*` variables of `environment`.
///
/// A configuration without sources is valid. Relative paths in variables count from the folder of `path`.
///
/// # Errors
///
/// Every mistake found, at once: an unreadable file, wrong syntax, an unknown key or variable, a value that cannot be.
pub fn load(path: &Path, environment: &Environment) -> Result<Loaded, Mistakes> {
    build(Layers::read(path, environment)?, place::folder_of(path))
}

/// Reads the same, and goes past what is wrong: for those who only look. What cannot be used has its default, and a
/// source that cannot be used is left out.
#[must_use]
pub fn load_partly(path: &Path, environment: &Environment) -> (Loaded, Option<Mistakes>) {
    match Layers::read(path, environment) {
        Ok(layers) => build_partly(layers, place::folder_of(path)),
        Err(mistakes) => {
            let nothing = Layers::without_files(environment);
            (build_partly(nothing, place::folder_of(path)).0, Some(mistakes))
        }
    }
}

fn build(layers: Layers<'_>, folder: PathBuf) -> Result<Loaded, Mistakes> {
    match build_partly(layers, folder) {
        (loaded, None) => Ok(loaded),
        (_, Some(mistakes)) => Err(mistakes),
    }
}

fn build_partly(layers: Layers<'_>, folder: PathBuf) -> (Loaded, Option<Mistakes>) {
    let mut reader = Reader::new(layers, folder);
    let settings = build::build(&mut reader);
    let (files, entries, mistakes) = reader.finish();
    (Loaded { settings, files, entries }, mistakes)
}
