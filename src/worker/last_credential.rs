//! Secrets that a source last used.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::config::{self, Secret};

/// Secrets that a source last used, kept to detect a replacement. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct LastCredential(Arc<Mutex<LastSecrets>>);

#[derive(Debug, Default)]
struct LastSecrets {
    /// Password, token or access token.
    credential: Option<Secret>,
    /// Secret of the OAuth 2.0 client, or key of the service account, that was last read.
    client_secret: Option<Secret>,
    is_client_refused: bool,
}

impl LastCredential {
    /// Sets the credential that was read.
    pub(super) fn set(&self, secret: Secret) {
        self.secrets().credential = Some(secret);
    }

    /// Returns true if `secret` differs from the credential last read, or none was read.
    pub(super) fn differs_from(&self, secret: &Secret) -> bool {
        let secrets = self.secrets();
        secrets.credential.as_ref().is_none_or(|last| !config::secrets_equal(last, secret))
    }

    /// Sets the secret of the client, and returns true if it differs from the one last read, or none
    /// was read.
    pub(super) fn replace_client_secret(&self, secret: Secret) -> bool {
        let is_replaced = self.is_client_secret_replaced(&secret);
        self.secrets().client_secret = Some(secret);
        is_replaced
    }

    /// Returns true if `secret` differs from that of the client last read, or none was read.
    pub(super) fn is_client_secret_replaced(&self, secret: &Secret) -> bool {
        let secrets = self.secrets();
        secrets.client_secret.as_ref().is_none_or(|last| !config::secrets_equal(last, secret))
    }

    /// Sets whether the sign-in server refuses the client rather than the account, which only a
    /// correction of the configuration ends.
    pub(super) fn set_client_refused(&self, is_client_refused: bool) {
        self.secrets().is_client_refused = is_client_refused;
    }

    pub(super) fn is_client_refused(&self) -> bool {
        self.secrets().is_client_refused
    }

    fn secrets(&self) -> MutexGuard<'_, LastSecrets> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
