//! The secret of an account: read when first needed, kept in memory, read again when it is refused.

use std::fmt;

use futures_util::future::BoxFuture;
use secrecy::{ExposeSecret as _, SecretString};
use tokio::sync::Mutex;

use crate::engine::{Cause, Failure};
use crate::source::Renewal;

/// The secret, or one sentence for a person on why it cannot be read.
pub type Reading = BoxFuture<'static, Result<SecretString, String>>;

/// Where the secret comes from is the reader's business; a file may change under us at any time.
pub struct Credential {
    reader: Box<dyn Fn() -> Reading + Send + Sync>,
    kept: Mutex<Option<SecretString>>,
}

impl Credential {
    /// Makes a credential that is read by `reader`, at its first use and not before.
    pub fn new(reader: impl Fn() -> Reading + Send + Sync + 'static) -> Self {
        Self { reader: Box::new(reader), kept: Mutex::new(None) }
    }

    /// Returns the secret, reading it if it was not read yet.
    ///
    /// # Errors
    /// [`Cause::Unauthorized`] with the reader's sentence.
    pub async fn current(&self) -> Result<SecretString, Failure> {
        let mut kept = self.kept.lock().await;
        if let Some(secret) = &*kept {
            return Ok(secret.clone());
        }
        let secret = self.read().await?;
        *kept = Some(secret.clone());
        Ok(secret)
    }

    /// Reads the secret again and says whether it is another one now.
    ///
    /// # Errors
    /// [`Cause::Unauthorized`] with the reader's sentence.
    pub async fn renew(&self) -> Result<Renewal, Failure> {
        let mut kept = self.kept.lock().await;
        let secret = self.read().await?;
        let same = kept.as_ref().is_some_and(|old| old.expose_secret() == secret.expose_secret());
        *kept = Some(secret);
        Ok(if same { Renewal::Same } else { Renewal::Changed })
    }

    async fn read(&self) -> Result<SecretString, Failure> {
        (self.reader)().await.map_err(|why| Failure::new(Cause::Unauthorized, why))
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

    fn rotating(secrets: &'static [Result<&'static str, &'static str>]) -> Credential {
        let reads = Arc::new(AtomicUsize::new(0));
        Credential::new(move || {
            let read = secrets[reads.fetch_add(1, Ordering::Relaxed)];
            Box::pin(async move { read.map(SecretString::from).map_err(str::to_owned) })
        })
    }

    #[tokio::test]
    async fn the_secret_is_read_once_until_it_is_renewed() {
        let credential = rotating(&[Ok("old"), Ok("old"), Ok("new")]);

        assert_eq!(credential.current().await.unwrap().expose_secret(), "old");
        assert_eq!(credential.current().await.unwrap().expose_secret(), "old");
        assert_eq!(credential.renew().await, Ok(Renewal::Same));
        assert_eq!(credential.renew().await, Ok(Renewal::Changed));
        assert_eq!(credential.current().await.unwrap().expose_secret(), "new");
    }

    #[tokio::test]
    async fn a_secret_that_cannot_be_read_is_an_authentication_failure() {
        let credential = rotating(&[Err("the file token is empty"), Ok("new")]);

        let failure = credential.current().await.unwrap_err();

        assert_eq!(failure, Failure::new(Cause::Unauthorized, "the file token is empty"));
        assert_eq!(credential.current().await.unwrap().expose_secret(), "new");
    }
}
