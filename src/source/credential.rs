//! Secret of an account: read at its first use, cached in memory, and read again when rejected.

use std::fmt;

use cynosure_engine::{Cause, Failure};
use futures_util::future::BoxFuture;
use secrecy::{ExposeSecret as _, SecretString};
use tokio::sync::Mutex;

use crate::source::CredentialChange;

/// Future that reads a secret. Its error is one sentence with the reason.
pub type SecretFuture = BoxFuture<'static, Result<SecretString, String>>;

/// Cached secret of an account. It does not know the secret's storage; a secret file may change at
/// any time.
pub struct Credential {
    read_secret: Box<dyn Fn() -> SecretFuture + Send + Sync>,
    cached: Mutex<Option<SecretString>>,
}

impl Credential {
    /// Creates a credential that calls `read_secret` at its first use and not before.
    pub fn new(read_secret: impl Fn() -> SecretFuture + Send + Sync + 'static) -> Self {
        Self { read_secret: Box::new(read_secret), cached: Mutex::new(None) }
    }

    /// Returns the cached secret, or reads it if none is cached.
    ///
    /// # Errors
    /// Returns [`Cause::Unauthorized`] with the error of the read.
    pub async fn current(&self) -> Result<SecretString, Failure> {
        let mut cached = self.cached.lock().await;
        if let Some(secret) = &*cached {
            return Ok(secret.clone());
        }
        let secret = self.read_uncached().await?;
        *cached = Some(secret.clone());
        Ok(secret)
    }

    /// Reads the secret again and returns whether it has changed.
    ///
    /// # Errors
    /// Returns [`Cause::Unauthorized`] with the error of the read.
    pub async fn refresh(&self) -> Result<CredentialChange, Failure> {
        let mut cached = self.cached.lock().await;
        let secret = self.read_uncached().await?;
        let is_unchanged =
            cached.as_ref().is_some_and(|old| old.expose_secret() == secret.expose_secret());
        *cached = Some(secret);
        Ok(if is_unchanged { CredentialChange::Unchanged } else { CredentialChange::Changed })
    }

    async fn read_uncached(&self) -> Result<SecretString, Failure> {
        (self.read_secret)().await.map_err(|message| Failure::new(Cause::Unauthorized, message))
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credential").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    fn rotating_credential(secrets: &'static [Result<&'static str, &'static str>]) -> Credential {
        let reads = Arc::new(AtomicUsize::new(0));
        Credential::new(move || {
            let result = secrets[reads.fetch_add(1, Ordering::Relaxed)];
            Box::pin(async move { result.map(SecretString::from).map_err(str::to_owned) })
        })
    }

    #[tokio::test]
    async fn the_secret_is_read_once_until_it_is_refreshed() {
        let credential = rotating_credential(&[Ok("old"), Ok("old"), Ok("new")]);

        assert_eq!(credential.current().await.unwrap().expose_secret(), "old");
        assert_eq!(credential.current().await.unwrap().expose_secret(), "old");
        assert_eq!(credential.refresh().await, Ok(CredentialChange::Unchanged));
        assert_eq!(credential.refresh().await, Ok(CredentialChange::Changed));
        assert_eq!(credential.current().await.unwrap().expose_secret(), "new");
    }

    #[tokio::test]
    async fn an_unreadable_secret_is_an_authentication_failure() {
        let credential = rotating_credential(&[Err("the file token is empty"), Ok("new")]);

        let failure = credential.current().await.unwrap_err();

        assert_eq!(failure, Failure::new(Cause::Unauthorized, "the file token is empty"));
        assert_eq!(credential.current().await.unwrap().expose_secret(), "new");
    }
}
