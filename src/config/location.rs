//! Where a value, or a mistake, was written.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A place in the configuration that a person can go to. Places order as a person reads: files first, by line.
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
    /// Whether both places are on one line of one file.
    pub(super) fn is_same_line(&self, other: &Self) -> bool {
        let line = |place: &Self| match place {
            Self::Line { file, line, .. } => Some((Arc::clone(file), *line)),
            Self::File(_) | Self::EnvVar(_) => None,
        };
        line(self).is_some_and(|one| line(other) == Some(one))
    }

    /// Returns the folder that relative paths written at this place count from; a variable has none.
    pub(super) fn base_folder(&self) -> Option<PathBuf> {
        match self {
            Self::File(file) | Self::Line { file, .. } => Some(absolute_folder(file)),
            Self::EnvVar(_) => None,
        }
    }
}

/// Returns the folder of a file, absolute, so that a later change of the working folder moves nothing.
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
