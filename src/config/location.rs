//! Location of a value, or of an error, in the configuration.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Location in the configuration. The order is that of reading: files first, by line.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Location {
    /// A file as a whole: it is missing, unreadable or not text.
    File(Arc<Path>),
    /// A line and a column of a file, both counted from 1, columns in characters.
    Line { file: Arc<Path>, line: usize, column: usize },
    /// An environment variable, by name.
    EnvVar(String),
}

impl Location {
    /// True if both locations are on one line of one file.
    pub(super) fn is_same_line(&self, other: &Self) -> bool {
        let file_and_line = |location: &Self| match location {
            Self::Line { file, line, .. } => Some((Arc::clone(file), *line)),
            Self::File(_) | Self::EnvVar(_) => None,
        };
        file_and_line(self).is_some_and(|one| file_and_line(other) == Some(one))
    }

    /// Returns the folder against which relative paths at this location are resolved. `None` for an
    /// environment variable.
    pub(super) fn base_folder(&self) -> Option<PathBuf> {
        match self {
            Self::File(file) | Self::Line { file, .. } => Some(absolute_folder(file)),
            Self::EnvVar(_) => None,
        }
    }
}

/// Returns the absolute folder of a file, so that a later change of the working directory has no
/// effect on it.
pub(super) fn absolute_folder(file: &Path) -> PathBuf {
    let absolute = std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
    absolute.parent().map(Path::to_owned).unwrap_or_default()
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(file) => write!(f, "{}", file.display()),
            Self::Line { file, line, column } => write!(f, "{}:{line}:{column}", file.display()),
            Self::EnvVar(name) => write!(f, "environment variable {name}"),
        }
    }
}
