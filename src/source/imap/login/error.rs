//! Failed logins, by the part of the server in them.

use cynosure_engine::Failure;

/// Failed login.
#[derive(Debug)]
pub(in crate::source::imap) enum LoginError {
    /// The server has answered, and its answer is no login.
    Refused(Failure),
    /// There is no answer: no connection, or a broken one.
    Broken(Failure),
}

impl From<Failure> for LoginError {
    fn from(failure: Failure) -> Self {
        Self::Broken(failure)
    }
}
