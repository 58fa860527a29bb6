//! An error in a text that a user wrote.

use std::fmt;

use super::location::Location;

/// One error in a text, for the user to correct.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Diagnostic {
    pub location: Location,
    /// Problem and remedy, with the dotted key where there is one. Never a secret.
    pub message: String,
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.location, self.message)
    }
}
