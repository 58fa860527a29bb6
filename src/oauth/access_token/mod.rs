//! Access token of a signed-in account, refreshed before it expires.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use cynosure_engine::{Failure, Timestamp};
use futures_util::future::BoxFuture;
use secrecy::{ExposeSecret as _, SecretString};
use tokio::sync::Mutex;
use tracing::{debug, warn};

use super::client::OAuthClient;
use super::error::{OAuthDenial, OAuthError};
use super::in_flight::RefreshesInFlight;
use super::task::{run_blocking, run_to_end};
use super::token_file::{StoredToken, TokenFile, TokenFileError};
use super::token_life::retry_delay;

/// Future that reads the secret of a client; `None` if it has none.
pub type ClientSecretFuture = BoxFuture<'static, Result<Option<SecretString>, OAuthError>>;

/// Access tokens of one account. One refresh runs at a time, also among processes with the same
/// token file, and all callers wait for it.
///
/// A refresh runs to its end even if its caller stops waiting: its answer may hold the only valid
/// refresh token.
pub struct AccessTokens {
    shared: Arc<SharedTokens>,
}

/// Parts of [`AccessTokens`] that a running refresh needs.
struct SharedTokens {
    client: OAuthClient,
    /// Reads the secret of the client. Called for each refresh, because its user may replace it.
    read_client_secret: Box<dyn Fn() -> ClientSecretFuture + Send + Sync>,
    file: TokenFile,
    /// Refreshes of the process.
    refreshes: RefreshesInFlight,
    now: Box<dyn Fn() -> Timestamp + Send + Sync>,
    cache: Mutex<TokenCache>,
    /// Number of refreshes so far.
    refresh_count: AtomicU64,
}

/// Tokens in memory.
#[derive(Default)]
struct TokenCache {
    /// Token in use.
    token: Option<StoredToken>,
    unsaved: Option<UnsavedToken>,
    /// Time of the next attempt after a failed refresh of a token that is still valid.
    next_refresh_at: Option<Timestamp>,
}

/// Granted token that is not in the file yet. It is not used before, because a crash would lose its
/// refresh token, which may be the only valid one.
struct UnsavedToken {
    token: StoredToken,
    /// Token that was refreshed.
    previous: StoredToken,
}

/// Token that a caller needs.
enum NeededToken {
    /// One that is not due, or that is valid and cannot be refreshed.
    Current,
    /// A valid one other than this, which a server has rejected; any valid one if `None`.
    OtherThan(Option<StoredToken>),
}

impl AccessTokens {
    /// Uses the tokens in `file`, which is read at the first use and not before. The client gets
    /// the secret that `read_client_secret` returns.
    pub fn new(
        client: OAuthClient,
        read_client_secret: impl Fn() -> ClientSecretFuture + Send + Sync + 'static,
        file: TokenFile,
        refreshes: RefreshesInFlight,
        now: impl Fn() -> Timestamp + Send + Sync + 'static,
    ) -> Self {
        let shared = SharedTokens {
            client,
            read_client_secret: Box::new(read_client_secret),
            file,
            refreshes,
            now: Box::new(now),
            cache: Mutex::default(),
            refresh_count: AtomicU64::new(0),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Returns a valid access token. It is refreshed when three quarters of its life are over; if
    /// that fails for now, the old one is used as long as it is valid.
    ///
    /// # Errors
    /// The error of the refresh or of the token file.
    pub async fn current(&self) -> Result<SecretString, OAuthError> {
        let shared = Arc::clone(&self.shared);
        run_to_end(async move { shared.current().await }).await
    }

    /// Returns another access token after a server has rejected the current one: that in the file
    /// if it is newer, otherwise a refreshed one.
    ///
    /// # Errors
    /// The error of the refresh or of the token file.
    pub async fn renew(&self) -> Result<SecretString, OAuthError> {
        let shared = Arc::clone(&self.shared);
        let rejected_count = shared.refresh_count.load(Ordering::Relaxed);
        run_to_end(async move { shared.renew(rejected_count).await }).await
    }
}

impl fmt::Debug for AccessTokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AccessTokens").field("file", &self.shared.file).finish_non_exhaustive()
    }
}

impl SharedTokens {
    async fn current(&self) -> Result<SecretString, OAuthError> {
        let mut cache = self.cache.lock().await;
        let now = (self.now)();
        let is_refresh_delayed = cache.next_refresh_at.is_some_and(|at| now < at);
        if let Some(token) = &cache.token
            && (!token.life().is_due(now) || is_refresh_delayed && token.life().is_valid(now))
        {
            return Ok(token.access_token.clone());
        }
        let error = match self.load_or_refresh(&mut cache, &NeededToken::Current).await {
            Ok(access_token) => return Ok(access_token),
            Err(error) => error,
        };
        let Some(delay) = retry_delay(&error) else { return Err(error) };
        let now = (self.now)();
        let Some(token) = cache.token.as_ref().filter(|token| token.life().is_valid(now)) else {
            return Err(error);
        };
        warn!(error = %error, "access token not refreshed, using the old one until it expires");
        let access_token = token.access_token.clone();
        cache.next_refresh_at = Some(now.after(delay));
        Ok(access_token)
    }

    async fn renew(&self, rejected_count: u64) -> Result<SecretString, OAuthError> {
        let mut cache = self.cache.lock().await;
        let is_refreshed = self.refresh_count.load(Ordering::Relaxed) != rejected_count;
        if let Some(token) = cache.token.as_ref().filter(|_| is_refreshed) {
            // Another caller had the same token rejected, and waited less.
            return Ok(token.access_token.clone());
        }
        let needed = NeededToken::OtherThan(cache.token.clone());
        self.load_or_refresh(&mut cache, &needed).await
    }

    /// Returns the access token in the file if it is the needed one, and otherwise refreshes it.
    async fn load_or_refresh(
        &self,
        cache: &mut TokenCache,
        needed: &NeededToken,
    ) -> Result<SecretString, OAuthError> {
        // A token that is not in the file yet is written under the lock only.
        if cache.unsaved.is_none() {
            let token = self.load(cache).await?;
            if needed.is_met_by(&token, (self.now)()) {
                return Ok(token.access_token);
            }
        }
        // Before the lock, for which others wait: a command may print it.
        let client_secret = (self.read_client_secret)().await;
        let _lock = self.file.lock().await?;
        // Another process may have refreshed the token meanwhile.
        let token = self.load(cache).await?;
        if needed.is_met_by(&token, (self.now)()) {
            return Ok(token.access_token);
        }
        self.refresh(cache, token, client_secret?).await
    }

    /// Loads the token in the file, after writing one that could not be written before.
    async fn load(&self, cache: &mut TokenCache) -> Result<StoredToken, OAuthError> {
        let token = match cache.unsaved.take() {
            Some(unsaved) => self.save(cache, unsaved).await?,
            None => match self.read_file().await? {
                Some(token) => token,
                None => {
                    let denial = OAuthDenial::not_signed_in(&self.client.source);
                    return Err(OAuthError::Denied(denial));
                }
            },
        };
        if !token.is_of(&self.client) {
            let (path, source) = (self.file.path().display(), &self.client.source);
            return Err(denied(format!(
                "the token file {path} belongs to another `client_id` or `token_url`; sign in \
                 again: `cynosure auth {source}`"
            )));
        }
        self.take_into_use(cache, &token);
        Ok(token)
    }

    /// Refreshes a token. The lock of the file must be held.
    async fn refresh(
        &self,
        cache: &mut TokenCache,
        previous: StoredToken,
        client_secret: Option<SecretString>,
    ) -> Result<SecretString, OAuthError> {
        let Some(refresh_token) = &previous.refresh_token else {
            let source = &self.client.source;
            return Err(denied(format!(
                "the access token has expired, and the server gave no refresh token; sign in \
                 again: `cynosure auth {source}`"
            )));
        };
        self.check_writable(&previous).await?;
        let _in_flight = self.refreshes.begin();
        let token = match self.client.with_secret(client_secret).refresh(refresh_token).await {
            Ok(grant) => previous.renewed(grant, (self.now)()),
            Err(OAuthError::Denied(denial)) => {
                // A program that takes no lock may have used the refresh token, which is then no
                // longer valid.
                let in_file = self.read_file().await?.filter(|in_file| {
                    in_file.is_of(&self.client) && !has_same_secrets(in_file, &previous)
                });
                return match in_file {
                    Some(token) if token.life().is_valid((self.now)()) => {
                        self.take_into_use(cache, &token);
                        Ok(token.access_token)
                    }
                    Some(_) | None => Err(OAuthError::Denied(denial)),
                };
            }
            Err(error) => return Err(error),
        };
        let token = self.save(cache, UnsavedToken { token, previous }).await?;
        self.take_into_use(cache, &token);
        debug!("access token refreshed");
        Ok(token.access_token)
    }

    /// Writes the token in the file once more. So a file that cannot be written, as on a full disk,
    /// shows before the refresh token is used: the answer may hold the only valid one.
    async fn check_writable(&self, token: &StoredToken) -> Result<(), OAuthError> {
        let unsaved = UnsavedToken { token: token.clone(), previous: token.clone() };
        let file = self.file.clone();
        let result = run_blocking(move || replace_token(&file, &unsaved)).await;
        result.map(drop).map_err(OAuthError::Storage)
    }

    /// Writes a granted token, and returns the one that is in the file then. On an error the token
    /// is kept for the next attempt.
    async fn save(
        &self,
        cache: &mut TokenCache,
        unsaved: UnsavedToken,
    ) -> Result<StoredToken, OAuthError> {
        let file = self.file.clone();
        let (result, unsaved) = run_blocking(move || {
            let result = replace_token(&file, &unsaved);
            (result, unsaved)
        })
        .await;
        match result {
            Ok(Some(newer)) => Ok(newer),
            Ok(None) => Ok(unsaved.token),
            Err(failure) => {
                cache.unsaved = Some(unsaved);
                Err(OAuthError::Storage(failure))
            }
        }
    }

    fn take_into_use(&self, cache: &mut TokenCache, token: &StoredToken) {
        let is_other = cache.token.as_ref().is_none_or(|old| !has_same_secrets(old, token));
        if is_other {
            self.refresh_count.fetch_add(1, Ordering::Relaxed);
            cache.next_refresh_at = None;
        }
        cache.token = Some(token.clone());
    }

    async fn read_file(&self) -> Result<Option<StoredToken>, OAuthError> {
        let file = self.file.clone();
        let loaded = run_blocking(move || file.load()).await;
        loaded.map_err(|error| match error {
            TokenFileError::Storage(failure) => OAuthError::Storage(failure),
            TokenFileError::Unusable(message) => denied(message),
        })
    }
}

impl NeededToken {
    fn is_met_by(&self, token: &StoredToken, now: Timestamp) -> bool {
        let life = token.life();
        match self {
            Self::Current => {
                !life.is_due(now) || token.refresh_token.is_none() && life.is_valid(now)
            }
            Self::OtherThan(rejected) => {
                let is_rejected = rejected.as_ref().is_some_and(|old| has_same_secrets(old, token));
                !is_rejected && life.is_valid(now)
            }
        }
    }
}

/// Writes a granted token to the file, unless a sign-in has replaced the previous one meanwhile:
/// then the newer token is returned.
fn replace_token(file: &TokenFile, unsaved: &UnsavedToken) -> Result<Option<StoredToken>, Failure> {
    let UnsavedToken { token, previous } = unsaved;
    // The file may also hold the granted token already, if only the last step of its write failed.
    if let Ok(Some(in_file)) = file.load()
        && !has_same_secrets(&in_file, previous)
        && !has_same_secrets(&in_file, token)
    {
        return Ok(Some(in_file));
    }
    file.save(token).map(|()| None)
}

fn has_same_secrets(one: &StoredToken, other: &StoredToken) -> bool {
    secrets(one) == secrets(other)
}

fn secrets(token: &StoredToken) -> (&str, Option<&str>) {
    let refresh_token = token.refresh_token.as_ref();
    (token.access_token.expose_secret(), refresh_token.map(|secret| secret.expose_secret()))
}

fn denied(advice: String) -> OAuthError {
    OAuthError::Denied(OAuthDenial::without_answer(advice))
}

#[cfg(test)]
mod tests;
