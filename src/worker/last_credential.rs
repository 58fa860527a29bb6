//! Credential that a source last read.

use std::sync::{Arc, Mutex, PoisonError};

use crate::config::{self, CredentialRef, EnvVars, Secret};

/// Credential that a source last read, kept to detect a replacement.
#[derive(Clone, Debug, Default)]
pub struct LastCredential(Arc<Mutex<Option<Secret>>>);

impl LastCredential {
    pub(super) fn read(
        &self,
        credential_ref: &CredentialRef,
        environment: &EnvVars,
    ) -> Result<Secret, config::CredentialError> {
        let secret = credential_ref.read(environment)?;
        self.set(secret.clone());
        Ok(secret)
    }

    /// Sets the secret that was read elsewhere.
    pub(super) fn set(&self, secret: Secret) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(secret);
    }

    /// Returns true if a credential is at `credential_ref` and differs from the one last read.
    pub(super) fn is_replaced(
        &self,
        credential_ref: &CredentialRef,
        environment: &EnvVars,
    ) -> bool {
        credential_ref.read(environment).is_ok_and(|secret| self.differs_from(&secret))
    }

    /// Returns true if `secret` differs from the one last read, or none was read.
    pub(super) fn differs_from(&self, secret: &Secret) -> bool {
        let last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        last.as_ref().is_none_or(|last| !config::secrets_equal(last, secret))
    }
}
