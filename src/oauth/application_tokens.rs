//! Access tokens of an application, which asks for them without a user: by the key of a service
//! account, or by its client secret.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use cynosure_engine::Timestamp;
use futures_util::future::BoxFuture;
use secrecy::SecretString;
use tokio::sync::Mutex;
use tracing::{debug, warn};

use super::error::OAuthError;
use super::grant::TokenGrant;
use super::token_life::{TokenLife, retry_delay};

/// Future that requests an access token.
pub type GrantFuture = BoxFuture<'static, Result<TokenGrant, OAuthError>>;

/// Access tokens of one application, in memory only: nothing is lost with them. One request runs at
/// a time, and all callers wait for it.
pub struct ApplicationTokens {
    request: Box<dyn Fn() -> GrantFuture + Send + Sync>,
    now: Box<dyn Fn() -> Timestamp + Send + Sync>,
    cache: Mutex<ApplicationCache>,
    /// Number of grants so far.
    grant_count: AtomicU64,
}

/// Token in memory.
#[derive(Default)]
struct ApplicationCache {
    token: Option<ApplicationToken>,
    /// Time of the next attempt after a failed request while the token is still valid.
    next_request_at: Option<Timestamp>,
}

struct ApplicationToken {
    access_token: SecretString,
    life: TokenLife,
}

impl ApplicationTokens {
    /// Gets tokens by `request`, which is called at the first use and not before. It reads the
    /// secret of the application each time, so that its user may replace it.
    pub fn new(
        request: impl Fn() -> GrantFuture + Send + Sync + 'static,
        now: impl Fn() -> Timestamp + Send + Sync + 'static,
    ) -> Self {
        Self {
            request: Box::new(request),
            now: Box::new(now),
            cache: Mutex::default(),
            grant_count: AtomicU64::new(0),
        }
    }

    /// Returns a valid access token. Another one is requested when three quarters of its life are
    /// over; if that fails for now, the old one is used as long as it is valid.
    ///
    /// # Errors
    /// The error of the request.
    pub async fn current(&self) -> Result<SecretString, OAuthError> {
        let mut cache = self.cache.lock().await;
        let now = (self.now)();
        let is_request_delayed = cache.next_request_at.is_some_and(|at| now < at);
        if let Some(ApplicationToken { access_token, life }) = &cache.token
            && (!life.is_due(now) || is_request_delayed && life.is_valid(now))
        {
            return Ok(access_token.clone());
        }
        let error = match self.request(&mut cache).await {
            Ok(access_token) => return Ok(access_token),
            Err(error) => error,
        };
        let Some(delay) = retry_delay(&error) else { return Err(error) };
        let now = (self.now)();
        let Some(token) = cache.token.as_ref().filter(|token| token.life.is_valid(now)) else {
            return Err(error);
        };
        warn!(error = %error, "no new access token, using the old one until it expires");
        let access_token = token.access_token.clone();
        cache.next_request_at = Some(now.after(delay));
        Ok(access_token)
    }

    /// Returns another access token after a server has rejected the current one.
    ///
    /// # Errors
    /// The error of the request.
    pub async fn renew(&self) -> Result<SecretString, OAuthError> {
        let rejected_count = self.grant_count.load(Ordering::Relaxed);
        let mut cache = self.cache.lock().await;
        let is_renewed = self.grant_count.load(Ordering::Relaxed) != rejected_count;
        if let Some(token) = cache.token.as_ref().filter(|_| is_renewed) {
            // Another caller had the same token rejected, and waited less.
            return Ok(token.access_token.clone());
        }
        self.request(&mut cache).await
    }

    async fn request(&self, cache: &mut ApplicationCache) -> Result<SecretString, OAuthError> {
        let requested_at = (self.now)();
        let grant = (self.request)().await?;
        let life = TokenLife {
            issued_at: requested_at,
            expires_at: grant.expires_in.map(|lifetime| requested_at.after(lifetime)),
        };
        let access_token = grant.access_token;
        cache.token = Some(ApplicationToken { access_token: access_token.clone(), life });
        cache.next_request_at = None;
        self.grant_count.fetch_add(1, Ordering::Relaxed);
        debug!("access token granted");
        Ok(access_token)
    }
}

impl fmt::Debug for ApplicationTokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApplicationTokens").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::sync::atomic::AtomicI64;
    use std::sync::{Arc, Mutex as StdMutex};
    use std::time::Duration;

    use secrecy::ExposeSecret as _;

    use super::*;
    use crate::oauth::error::OAuthDenial;

    const LIFETIME: Duration = Duration::from_secs(3600);

    /// Application at a server with scripted answers.
    struct Application {
        tokens: ApplicationTokens,
        /// Milliseconds of the clock.
        now: Arc<AtomicI64>,
        request_count: Arc<AtomicU64>,
    }

    impl Application {
        fn new(answers: impl IntoIterator<Item = Result<&'static str, OAuthError>>) -> Self {
            let answers: StdMutex<VecDeque<_>> = StdMutex::new(answers.into_iter().collect());
            let (now, request_count) = (Arc::new(AtomicI64::new(0)), Arc::new(AtomicU64::new(0)));
            let (clock, count) = (Arc::clone(&now), Arc::clone(&request_count));
            let request = move || -> GrantFuture {
                count.fetch_add(1, Ordering::Relaxed);
                let answer = answers.lock().unwrap().pop_front().expect("no more requests");
                Box::pin(async move {
                    // Lets other callers arrive during the request.
                    tokio::task::yield_now().await;
                    answer.map(|access_token| TokenGrant {
                        access_token: access_token.into(),
                        refresh_token: None,
                        expires_in: Some(LIFETIME),
                        scope: None,
                    })
                })
            };
            let tokens =
                ApplicationTokens::new(request, move || Timestamp(clock.load(Ordering::Relaxed)));
            Self { tokens, now, request_count }
        }

        fn set_seconds(&self, seconds: i64) {
            self.now.store(seconds * 1000, Ordering::Relaxed);
        }

        async fn current(&self) -> Result<String, OAuthError> {
            self.tokens.current().await.map(|token| token.expose_secret().to_owned())
        }

        async fn renewed(&self) -> Result<String, OAuthError> {
            self.tokens.renew().await.map(|token| token.expose_secret().to_owned())
        }

        fn request_count(&self) -> u64 {
            self.request_count.load(Ordering::Relaxed)
        }
    }

    fn down() -> Result<&'static str, OAuthError> {
        Err(OAuthError::Transient { message: "down".to_owned(), retry_after: None })
    }

    #[tokio::test]
    async fn a_token_is_requested_again_after_three_quarters_of_its_life() {
        let application = Application::new([Ok("at-1"), Ok("at-2")]);

        assert_eq!(application.current().await.unwrap(), "at-1");
        application.set_seconds(2699);
        assert_eq!(application.current().await.unwrap(), "at-1");
        application.set_seconds(2700);
        assert_eq!(application.current().await.unwrap(), "at-2");
        assert_eq!(application.request_count(), 2);
    }

    #[tokio::test]
    async fn callers_share_one_request() {
        let application = Application::new([Ok("at-1"), Ok("at-2")]);

        let (one, other) = tokio::join!(application.current(), application.current());
        assert_eq!((one.unwrap(), other.unwrap()), ("at-1".to_owned(), "at-1".to_owned()));
        let (one, other) = tokio::join!(application.renewed(), application.renewed());
        assert_eq!((one.unwrap(), other.unwrap()), ("at-2".to_owned(), "at-2".to_owned()));
        assert_eq!(application.request_count(), 2);
    }

    #[tokio::test]
    async fn a_valid_token_outlasts_a_failing_server() {
        let application = Application::new([Ok("at-1"), down(), down(), Ok("at-2")]);
        application.current().await.unwrap();

        application.set_seconds(2700);
        assert_eq!(application.current().await.unwrap(), "at-1");
        application.set_seconds(2759);
        assert_eq!(application.current().await.unwrap(), "at-1");
        assert_eq!(application.request_count(), 2, "the next attempt is a minute later");

        application.set_seconds(3600);
        let error = application.current().await.unwrap_err();
        assert!(matches!(error, OAuthError::Transient { .. }), "{error}");
        assert_eq!(application.current().await.unwrap(), "at-2");
    }

    #[tokio::test]
    async fn a_refusal_is_final_while_the_old_token_is_valid() {
        let denial = OAuthDenial::without_answer("no delegation".to_owned());
        let application = Application::new([Ok("at-1"), Err(OAuthError::Denied(denial))]);
        application.current().await.unwrap();

        application.set_seconds(2700);
        let error = application.current().await.unwrap_err();

        assert!(matches!(error, OAuthError::Denied(_)), "{error}");
    }
}
