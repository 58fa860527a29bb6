//! Folders against which the relative paths of a configuration are resolved.

use std::path::{Path, PathBuf};

use cynosure_engine::user_input::Location;

/// Returns the folder against which relative paths at this location are resolved. `None` for an
/// environment variable.
pub(super) fn base_folder(location: &Location) -> Option<PathBuf> {
    match location {
        Location::File(file) | Location::Line { file, .. } => Some(absolute_folder(file)),
        Location::EnvVar(_) => None,
    }
}

/// Returns the absolute folder of a file, so that a later change of the working directory has no
/// effect on it.
pub(super) fn absolute_folder(file: &Path) -> PathBuf {
    let absolute = std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
    absolute.parent().map(Path::to_owned).unwrap_or_default()
}
