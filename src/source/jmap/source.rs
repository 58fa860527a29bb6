//! Source for one account, with its HTTP client, its credential and the cached session.

use std::cell::Cell;
use std::fmt;
use std::rc::Rc;
use std::sync::{Arc, OnceLock};

use cynosure_engine::{AccountId, Failure};
use secrecy::SecretString;
use tokio::sync::{Mutex, Semaphore};

use crate::limiter::RequestLimiter;
use crate::source::credential::Credential;
use crate::source::http::{Authorization, HttpClient};
use crate::source::jmap::options::{AuthScheme, JmapOptions};
use crate::source::jmap::session::{self, JmapSession};

/// Source for one account on a JMAP server.
pub struct JmapSource {
    pub(super) options: JmapOptions,
    pub(super) client: HttpClient,
    pub(super) credential: Credential,
    session_cache: Mutex<SessionCache>,
    /// Only account that is accessed; set by the first session if not configured.
    account: OnceLock<AccountId>,
    /// True if the server has refused to list the mailboxes, so that they are not asked for until
    /// the next full listing. Kept beside the session, which a refusal ends.
    pub(super) has_refused_mailboxes: Cell<bool>,
    pub(super) download_permits: Semaphore,
}

/// Session kept between requests.
#[derive(Default)]
struct SessionCache {
    session: Option<Arc<JmapSession>>,
    /// Session state that a response announced before the session was fetched again.
    announced_state: Option<String>,
}

impl JmapSource {
    /// Creates the source. Nothing is sent or read before the first request.
    ///
    /// # Errors
    /// Returns the errors of [`HttpClient::new`].
    pub fn new(
        options: JmapOptions,
        credential: Credential,
        limiter: Rc<dyn RequestLimiter>,
    ) -> Result<Self, Failure> {
        let mut http = options.http.clone();
        http.allowed_origins.push(options.url.origin());
        let client = HttpClient::new(http, limiter)?;
        let max_downloads =
            usize::try_from(options.concurrency).unwrap_or(Semaphore::MAX_PERMITS).max(1);
        let account = options.account.clone().map_or_else(OnceLock::new, OnceLock::from);
        Ok(Self {
            options,
            client,
            credential,
            session_cache: Mutex::default(),
            account,
            has_refused_mailboxes: Cell::new(false),
            download_permits: Semaphore::new(max_downloads),
        })
    }

    pub(super) async fn authorization(&self) -> Result<Authorization, Failure> {
        let secret: SecretString = self.credential.current().await?;
        Ok(match &self.options.auth {
            AuthScheme::Basic { username } => {
                Authorization::Basic { username: username.clone(), password: secret }
            }
            AuthScheme::Bearer => Authorization::Bearer { token: secret },
        })
    }

    /// Returns the cached session, or discovers it. Only one discovery runs at a time.
    pub(super) async fn session(&self) -> Result<Arc<JmapSession>, Failure> {
        let mut cache = self.session_cache.lock().await;
        if let Some(session) = &cache.session {
            return Ok(Arc::clone(session));
        }
        let authorization = self.authorization().await?;
        let announced = cache.announced_state.take();
        let session =
            session::discover(&self.client, &self.options.url, &authorization, announced).await?;
        let expected = self.account.get_or_init(|| session.account.clone());
        if *expected != session.account {
            return Err(Failure::account_changed(&self.options.name, expected, &session.account));
        }
        let session = Arc::new(session);
        cache.session = Some(Arc::clone(&session));
        Ok(session)
    }

    /// Drops a stale session from the cache, unless it was replaced already.
    pub(super) async fn invalidate_session(
        &self,
        stale: &Arc<JmapSession>,
        announced: Option<String>,
    ) {
        let mut cache = self.session_cache.lock().await;
        if cache.session.as_ref().is_some_and(|session| Arc::ptr_eq(session, stale)) {
            *cache = SessionCache { session: None, announced_state: announced };
        }
    }

    /// Drops the session from the cache.
    pub(super) async fn clear_session(&self) {
        *self.session_cache.lock().await = SessionCache::default();
    }
}

impl fmt::Debug for JmapSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JmapSource").field("options", &self.options).finish_non_exhaustive()
    }
}
