//! Scope of a collection.

use std::path::{Path, PathBuf};
use std::time::Duration;

/// Configured source and its provider.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SourceIdentity {
    pub name: String,
    pub provider: String,
}

/// Scope of a collection: folders, sources, unit and limits.
#[derive(Clone, Debug)]
pub struct CollectConfig {
    pub state_dir: PathBuf,
    pub archive_dir: PathBuf,
    /// Enabled sources.
    pub sources: Vec<SourceIdentity>,
    pub unit: String,
    /// Returns the reason why a source cannot use its archive, if there is one. The arguments are
    /// the state folder, the archive folder and the name of the source.
    pub archive_mismatch: fn(&Path, &Path, &str) -> Option<String>,
    /// True if requests go through a proxy pool.
    pub has_proxy_pool: bool,
    /// Time span of the journal that is read.
    pub journal_window: Duration,
    /// Time limit of each collector.
    pub timeout: Duration,
}

impl CollectConfig {
    pub(super) fn find_archive_mismatches(&self) -> Vec<(String, String)> {
        let mismatch = |SourceIdentity { name, .. }: &SourceIdentity| {
            let reason = (self.archive_mismatch)(&self.state_dir, &self.archive_dir, name)?;
            Some((name.clone(), reason))
        };
        self.sources.iter().filter_map(mismatch).collect()
    }

    /// Returns the folders that the workers write to.
    pub(super) fn data_folders(&self) -> Vec<PathBuf> {
        vec![self.state_dir.clone(), self.archive_dir.clone()]
    }
}
