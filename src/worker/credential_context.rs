//! Place of the secrets of a source, and the use of them.

use std::path::PathBuf;

use cynosure_engine::Failure;

use crate::config::{CredentialError, EnvVars, Secret};
use crate::oauth::{OAuthError, RefreshesInFlight};
use crate::source::CredentialChange;
use crate::worker::last_credential::LastCredential;

/// Place of the secrets of a source, and the last ones that were used.
#[derive(Clone, Debug)]
pub(super) struct CredentialContext {
    /// Name of the source, for the commands in error messages.
    pub(super) source: String,
    pub(super) environment: EnvVars,
    pub(super) last_credential: LastCredential,
    /// Folder with the state of the source, which has the token file by default.
    pub(super) source_state_dir: PathBuf,
    /// Refreshes of all sources of the process.
    pub(super) refreshes: RefreshesInFlight,
}

impl CredentialContext {
    /// Remembers whether the client was refused, and returns the failure of an error.
    pub(super) fn record_grant(
        &self,
        result: Result<Secret, OAuthError>,
    ) -> Result<Secret, Failure> {
        let is_client_refused = matches!(result, Err(OAuthError::Misconfigured(_)));
        self.last_credential.set_client_refused(is_client_refused);
        result.map_err(|error| error.to_failure())
    }

    /// Remembers the secret of the client, and returns whether it replaces another one. `None` if
    /// there is none, or if it cannot be read, which is reported when it is used.
    pub(super) fn client_secret_change(&self, secret: Option<Secret>) -> CredentialChange {
        let is_replaced =
            secret.is_some_and(|secret| self.last_credential.replace_client_secret(secret));
        if is_replaced { CredentialChange::Changed } else { CredentialChange::Unchanged }
    }
}

/// Returns the error of a client whose secret cannot be read. `name` is that of the secret.
pub(super) fn client_secret_error(name: &str, error: &CredentialError) -> OAuthError {
    let message = format!("{name}: {error}");
    if error.is_permanent() {
        OAuthError::Misconfigured(message)
    } else {
        // A command that prints it may succeed the next time.
        OAuthError::Transient { message, retry_after: None }
    }
}
