//! Error that ends a command, with the exit code of the program.

use std::io;

use cynosure_engine::Failure;

use crate::app::exit::ProgramExit;
use crate::config::UnknownSourceError;
use crate::disk::LockFileError;
use crate::ledger::LedgerOpenError;
use crate::oauth::OAuthError;

/// Error that ends a command, or one step of it.
#[derive(Debug)]
pub(crate) enum ProgramError {
    /// Message that says what failed, where, and what to do.
    Message { exit: ProgramExit, message: String },
    /// Wrong usage, such as a missing or invalid argument.
    Usage(String),
    /// The result could not be written to standard output.
    StdoutFailed(io::Error),
}

impl ProgramError {
    pub(crate) fn new(exit: ProgramExit, message: impl Into<String>) -> Self {
        Self::Message { exit, message: message.into() }
    }

    /// Returns the message, for output other than standard error.
    #[must_use]
    pub(crate) fn message(&self) -> String {
        match self {
            Self::Message { message, .. } | Self::Usage(message) => message.clone(),
            Self::StdoutFailed(error) => error.to_string(),
        }
    }
}

impl From<Failure> for ProgramError {
    fn from(failure: Failure) -> Self {
        Self::new(ProgramExit::Storage, failure.message)
    }
}

impl From<LedgerOpenError> for ProgramError {
    fn from(error: LedgerOpenError) -> Self {
        match error {
            LedgerOpenError::NewerVersion { .. } => {
                Self::new(ProgramExit::Configuration, error.to_string())
            }
            LedgerOpenError::Damaged(failure) | LedgerOpenError::Failed(failure) => failure.into(),
        }
    }
}

impl From<LockFileError> for ProgramError {
    fn from(error: LockFileError) -> Self {
        match error {
            LockFileError::Held { .. } => Self::new(ProgramExit::Other, error.to_string()),
            LockFileError::Storage(failure) => failure.into(),
        }
    }
}

impl From<UnknownSourceError> for ProgramError {
    fn from(error: UnknownSourceError) -> Self {
        Self::new(ProgramExit::Configuration, error.to_string())
    }
}

impl From<OAuthError> for ProgramError {
    fn from(error: OAuthError) -> Self {
        let exit = match &error {
            OAuthError::Denied(_) => ProgramExit::Authentication,
            OAuthError::Misconfigured(_) => ProgramExit::Configuration,
            OAuthError::Transient { .. } => ProgramExit::Other,
            OAuthError::Storage(_) => ProgramExit::Storage,
        };
        Self::new(exit, error.to_failure().message)
    }
}

#[cfg(test)]
mod tests {
    use cynosure_engine::Cause;

    use super::*;
    use crate::oauth::OAuthDenial;

    #[test]
    fn each_error_of_a_sign_in_has_its_exit_code() {
        let denial = OAuthDenial {
            error: "access_denied".to_owned(),
            description: None,
            advice: "the consent was declined".to_owned(),
        };
        let message = "the server cannot be reached".to_owned();
        for (error, code) in [
            (OAuthError::Denied(denial), 77),
            (OAuthError::Misconfigured("check `client_id`".to_owned()), 78),
            (OAuthError::Transient { message, retry_after: None }, 1),
            (OAuthError::Storage(Failure::new(Cause::Storage, "the disk is full")), 74),
        ] {
            let expected = error.to_failure().message;
            let ProgramError::Message { exit, message } = ProgramError::from(error) else {
                panic!("it has an exit code")
            };
            assert_eq!((exit.code(), message), (code, expected));
        }
    }
}
