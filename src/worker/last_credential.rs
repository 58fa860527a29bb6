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
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(secret.clone());
        Ok(secret)
    }

    /// Returns true if a credential is at `credential_ref` and differs from the one last read.
    pub(super) fn is_replaced(
        &self,
        credential_ref: &CredentialRef,
        environment: &EnvVars,
    ) -> bool {
        let Ok(secret) = credential_ref.read(environment) else { return false };
        let last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        last.as_ref().is_none_or(|last| !config::secrets_equal(last, &secret))
    }
}
