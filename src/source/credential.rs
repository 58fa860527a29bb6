//! Credential of an account: a stored secret, or access tokens that are refreshed.

use std::fmt;

use cynosure_engine::Failure;
use futures_util::future::BoxFuture;
use secrecy::{ExposeSecret as _, SecretString};
use tokio::sync::Mutex;

use crate::source::CredentialChange;

/// Future that reads a secret. Its failure is that of a refused credential if there is no usable
/// secret, and any other if the secret may be read later.
pub type SecretFuture = BoxFuture<'static, Result<SecretString, Failure>>;

/// Future that reads the stored access token; `None` if none is stored.
pub type StoredTokenFuture = BoxFuture<'static, Result<Option<SecretString>, Failure>>;

type ReadSecret = Box<dyn Fn() -> SecretFuture + Send + Sync>;

/// Future that returns whether the user has replaced the secret with which tokens are requested.
pub type SecretChangeFuture = BoxFuture<'static, CredentialChange>;

type ReadStoredToken = Box<dyn Fn() -> StoredTokenFuture + Send + Sync>;

type ReadSecretChange = Box<dyn Fn() -> SecretChangeFuture + Send + Sync>;

/// Credential of an account. It does not know the storage of the secret, which may change at any
/// time.
pub struct Credential {
    origin: SecretOrigin,
    /// Secret that was last used. After a failure to get an access token it is the stored token, so
    /// that a sign-in is noticed.
    last: Mutex<Option<SecretString>>,
}

/// Origin of the secrets of a credential.
enum SecretOrigin {
    /// Secret that a user replaces. It is cached until it is rejected.
    Stored(ReadSecret),
    Tokens(TokenReaders),
}

/// Functions that return the access tokens of an account.
struct TokenReaders {
    current: ReadSecret,
    renew: ReadSecret,
    stored: ReadStoredToken,
    secret_change: ReadSecretChange,
}

impl Credential {
    /// Creates a credential that calls `read` at its first use and not before, and again when the
    /// secret is rejected.
    pub fn new(read: impl Fn() -> SecretFuture + Send + Sync + 'static) -> Self {
        Self::with_origin(SecretOrigin::Stored(Box::new(read)))
    }

    /// Creates a credential whose secrets are access tokens. `current` returns a valid one, and is
    /// called for each use. `renew` replaces one that was rejected. `stored` returns the one that is
    /// stored and sends nothing: a user who signs in again replaces it. `secret_change` returns
    /// whether the secret with which tokens are requested has been replaced since its last use, and
    /// that at most once for each replacement.
    pub fn from_tokens(
        current: impl Fn() -> SecretFuture + Send + Sync + 'static,
        renew: impl Fn() -> SecretFuture + Send + Sync + 'static,
        stored: impl Fn() -> StoredTokenFuture + Send + Sync + 'static,
        secret_change: impl Fn() -> SecretChangeFuture + Send + Sync + 'static,
    ) -> Self {
        Self::with_origin(SecretOrigin::Tokens(TokenReaders {
            current: Box::new(current),
            renew: Box::new(renew),
            stored: Box::new(stored),
            secret_change: Box::new(secret_change),
        }))
    }

    fn with_origin(origin: SecretOrigin) -> Self {
        Self { origin, last: Mutex::new(None) }
    }

    /// Returns the cached secret, or reads it if none is cached. Access tokens are not cached here.
    ///
    /// # Errors
    /// Returns the failure of the read.
    pub async fn current(&self) -> Result<SecretString, Failure> {
        let mut last = self.last.lock().await;
        match &self.origin {
            SecretOrigin::Stored(read) => {
                if let Some(secret) = &*last {
                    return Ok(secret.clone());
                }
                let secret = read().await?;
                *last = Some(secret.clone());
                Ok(secret)
            }
            SecretOrigin::Tokens(tokens) => tokens.read(&tokens.current, &mut last).await,
        }
    }

    /// Reads the secret again, or has the access token refreshed, and returns whether it has
    /// changed.
    ///
    /// # Errors
    /// Returns the failure of the read.
    pub async fn refresh(&self) -> Result<CredentialChange, Failure> {
        let mut last = self.last.lock().await;
        let rejected = last.clone();
        let secret = match &self.origin {
            SecretOrigin::Stored(read) => read().await?,
            SecretOrigin::Tokens(tokens) => tokens.read(&tokens.renew, &mut last).await?,
        };
        let change = change_between(rejected.as_ref(), &secret);
        *last = Some(secret);
        Ok(change)
    }

    /// Reads what is stored again, has nothing refreshed, and returns whether it has changed. A
    /// refreshed access token always differs from the rejected one, and is rejected again where the
    /// account itself is refused. So only a stored token, or another secret to request tokens with,
    /// ends a wait for another credential.
    ///
    /// # Errors
    /// Returns the failure of the read.
    pub async fn reload(&self) -> Result<CredentialChange, Failure> {
        let tokens = match &self.origin {
            SecretOrigin::Stored(_) => return self.refresh().await,
            SecretOrigin::Tokens(tokens) => tokens,
        };
        let mut last = self.last.lock().await;
        let stored = (tokens.stored)().await?;
        let secret_change = (tokens.secret_change)().await;
        let Some(stored) = stored else { return Ok(secret_change) };
        let token_change = change_between(last.as_ref(), &stored);
        *last = Some(stored);
        Ok(match secret_change {
            CredentialChange::Changed => CredentialChange::Changed,
            CredentialChange::Unchanged => token_change,
        })
    }
}

impl TokenReaders {
    /// Reads an access token and keeps it in `last`.
    async fn read(
        &self,
        read: &ReadSecret,
        last: &mut Option<SecretString>,
    ) -> Result<SecretString, Failure> {
        // Read before the request, because the user may sign in during it.
        let stored = (self.stored)().await;
        let result = read().await;
        *last = match &result {
            Ok(token) => Some(token.clone()),
            Err(_) => stored.ok().flatten(),
        };
        result
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credential").finish_non_exhaustive()
    }
}

fn change_between(old: Option<&SecretString>, new: &SecretString) -> CredentialChange {
    if old.is_some_and(|old| old.expose_secret() == new.expose_secret()) {
        CredentialChange::Unchanged
    } else {
        CredentialChange::Changed
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
    use std::sync::{Arc, Mutex as StdMutex, PoisonError};

    use cynosure_engine::Cause;

    use super::*;

    /// Token server with the file that holds its last token.
    #[derive(Clone, Default)]
    struct TokenServer {
        stored: Arc<StdMutex<Option<&'static str>>>,
        /// Token that the next refresh returns.
        next: Arc<StdMutex<Option<&'static str>>>,
        refreshes: Arc<AtomicUsize>,
        is_secret_replaced: Arc<AtomicBool>,
    }

    impl TokenServer {
        fn with_stored(token: &'static str) -> Self {
            let server = Self::default();
            server.sign_in(token);
            server
        }

        fn sign_in(&self, token: &'static str) {
            *self.stored.lock().unwrap() = Some(token);
        }

        fn issue_next(&self, token: &'static str) {
            *self.next.lock().unwrap() = Some(token);
        }

        fn stored(&self) -> Option<SecretString> {
            self.stored.lock().unwrap().map(SecretString::from)
        }

        fn refresh(&self) -> Result<SecretString, Failure> {
            self.refreshes.fetch_add(1, Ordering::Relaxed);
            let issued = self.next.lock().unwrap_or_else(PoisonError::into_inner).take();
            let token = issued.ok_or_else(|| Failure::new(Cause::Unauthorized, "invalid_grant"))?;
            self.sign_in(token);
            Ok(token.into())
        }

        fn credential(&self) -> Credential {
            let (current, renew, stored) = (self.clone(), self.clone(), self.clone());
            let is_secret_replaced = Arc::clone(&self.is_secret_replaced);
            Credential::from_tokens(
                move || {
                    let result = current.stored().map_or_else(|| current.refresh(), Ok);
                    Box::pin(async move { result })
                },
                move || {
                    let result = renew.refresh();
                    Box::pin(async move { result })
                },
                move || {
                    let token = stored.stored();
                    Box::pin(async move { Ok(token) })
                },
                move || {
                    let change = if is_secret_replaced.swap(false, Ordering::Relaxed) {
                        CredentialChange::Changed
                    } else {
                        CredentialChange::Unchanged
                    };
                    Box::pin(async move { change })
                },
            )
        }
    }

    fn rotating_credential(secrets: &'static [Result<&'static str, &'static str>]) -> Credential {
        let reads = Arc::new(AtomicUsize::new(0));
        Credential::new(move || {
            let result = secrets[reads.fetch_add(1, Ordering::Relaxed)];
            let to_failure = |message: &str| Failure::new(Cause::Unauthorized, message);
            Box::pin(async move { result.map(SecretString::from).map_err(to_failure) })
        })
    }

    #[tokio::test]
    async fn the_secret_is_read_once_until_it_is_refreshed() {
        let credential = rotating_credential(&[Ok("old"), Ok("old"), Ok("new"), Ok("new")]);

        assert_eq!(credential.current().await.unwrap().expose_secret(), "old");
        assert_eq!(credential.current().await.unwrap().expose_secret(), "old");
        assert_eq!(credential.refresh().await, Ok(CredentialChange::Unchanged));
        assert_eq!(credential.refresh().await, Ok(CredentialChange::Changed));
        assert_eq!(credential.reload().await, Ok(CredentialChange::Unchanged));
        assert_eq!(credential.current().await.unwrap().expose_secret(), "new");
    }

    #[tokio::test]
    async fn an_unreadable_secret_is_an_authentication_failure() {
        let credential = rotating_credential(&[Err("the file token is empty"), Ok("new")]);

        let failure = credential.current().await.unwrap_err();

        assert_eq!(failure, Failure::new(Cause::Unauthorized, "the file token is empty"));
        assert_eq!(credential.current().await.unwrap().expose_secret(), "new");
    }

    #[tokio::test]
    async fn an_access_token_is_asked_for_at_each_use() {
        let server = TokenServer::with_stored("first");
        let credential = server.credential();

        assert_eq!(credential.current().await.unwrap().expose_secret(), "first");
        server.sign_in("second");
        assert_eq!(credential.current().await.unwrap().expose_secret(), "second");
        server.issue_next("third");
        assert_eq!(credential.refresh().await, Ok(CredentialChange::Changed));
        assert_eq!(credential.current().await.unwrap().expose_secret(), "third");
    }

    #[tokio::test]
    async fn a_reload_finds_a_sign_in_and_refreshes_nothing() {
        let server = TokenServer::with_stored("expired");
        let credential = server.credential();
        assert_eq!(credential.refresh().await.unwrap_err().cause, Cause::Unauthorized);

        assert_eq!(credential.reload().await, Ok(CredentialChange::Unchanged));
        assert_eq!(credential.reload().await, Ok(CredentialChange::Unchanged));
        server.sign_in("new");
        assert_eq!(credential.reload().await, Ok(CredentialChange::Changed));

        assert_eq!(server.refreshes.load(Ordering::Relaxed), 1);
        assert_eq!(credential.current().await.unwrap().expose_secret(), "new");
    }

    #[tokio::test]
    async fn the_first_sign_in_is_found() {
        let server = TokenServer::default();
        let credential = server.credential();
        assert_eq!(credential.current().await.unwrap_err().cause, Cause::Unauthorized);

        assert_eq!(credential.reload().await, Ok(CredentialChange::Unchanged));
        server.sign_in("first");

        assert_eq!(credential.reload().await, Ok(CredentialChange::Changed));
    }

    #[tokio::test]
    async fn a_replaced_client_secret_is_found_once() {
        for server in [TokenServer::default(), TokenServer::with_stored("first")] {
            let credential = server.credential();
            credential.current().await.ok();
            assert_eq!(credential.reload().await, Ok(CredentialChange::Unchanged));

            server.is_secret_replaced.store(true, Ordering::Relaxed);

            assert_eq!(credential.reload().await, Ok(CredentialChange::Changed));
            assert_eq!(credential.reload().await, Ok(CredentialChange::Unchanged));
        }
    }
}
