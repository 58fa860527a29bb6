//! Location of a value, or of an error, in the input.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

/// Location in the input. The order is that of reading: files first, by line.
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
    #[must_use]
    pub fn is_same_line(&self, other: &Self) -> bool {
        let file_and_line = |location: &Self| match location {
            Self::Line { file, line, .. } => Some((Arc::clone(file), *line)),
            Self::File(_) | Self::EnvVar(_) => None,
        };
        file_and_line(self).is_some_and(|one| file_and_line(other) == Some(one))
    }
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
