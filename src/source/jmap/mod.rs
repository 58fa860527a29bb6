//! Email over JMAP: RFC 8620 for the protocol, RFC 8621 for email.
//!
//! Threads are the items, emails their documents. A listing returns emails and not collapsed
//! threads, so that it shows exactly which bytes are new before any is downloaded. Every request
//! contains one method call, because servers differ most in the effect of one failed call on the
//! others of its batch.

mod api;
mod changes;
mod completeness;
mod download;
mod filter;
mod full_list;
mod mail;
mod missing;
mod page_token;
mod session;

use std::fmt;
use std::rc::Rc;
use std::sync::{Arc, OnceLock};

use chrono::NaiveDate;
use secrecy::SecretString;
use tokio::sync::{Mutex, Semaphore};
use url::Url;

use self::session::JmapSession;
use crate::engine::{AccountId, Cursor, Failure, PageToken, Timestamp};
use crate::limiter::RequestLimiter;
use crate::source::credential::Credential;
use crate::source::http::{Authorization, HttpClient, HttpOptions};
use crate::source::{
    CredentialChange, DocumentRef, FetchOutcome, Listing, Page, PollResult, Sink, Source,
};

/// Connection settings and filters of one account.
#[derive(Clone, Debug)]
pub struct JmapOptions {
    /// Name of the source in the configuration, for messages.
    pub name: String,
    /// Account of the ledger. If `None`, the account of the first session is used from then on.
    pub account: Option<AccountId>,
    /// URL of the service: a bare origin, or the URL of the session resource itself.
    pub url: Url,
    pub auth: AuthScheme,
    /// Names, roles or paths (`Parent/Child`) of the mailboxes to extract; empty means all.
    pub mailboxes: Vec<String>,
    /// First day of receipt (UTC) of the emails to extract.
    pub since: Option<NaiveDate>,
    /// Maximum number of emails per page of a listing.
    pub page_size_max: u32,
    /// Maximum number of concurrent downloads.
    pub concurrency: u32,
    /// Options of the HTTP client. The origin of `url` is always allowed.
    pub http: HttpOptions,
}

/// HTTP authentication scheme of the credential.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum AuthScheme {
    Basic { username: String },
    Bearer,
}

/// Source for one account on a JMAP server.
pub struct JmapSource {
    options: JmapOptions,
    client: HttpClient,
    credential: Credential,
    session_cache: Mutex<SessionCache>,
    /// Only account that is accessed; set by the first session if not configured.
    account: OnceLock<AccountId>,
    download_permits: Semaphore,
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
            download_permits: Semaphore::new(max_downloads),
        })
    }

    async fn authorization(&self) -> Result<Authorization, Failure> {
        let secret: SecretString = self.credential.current().await?;
        Ok(match &self.options.auth {
            AuthScheme::Basic { username } => {
                Authorization::Basic { username: username.clone(), password: secret }
            }
            AuthScheme::Bearer => Authorization::Bearer { token: secret },
        })
    }

    /// Returns the cached session, or discovers it. Only one discovery runs at a time.
    async fn session(&self) -> Result<Arc<JmapSession>, Failure> {
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
    async fn invalidate_session(&self, stale: &Arc<JmapSession>, announced: Option<String>) {
        let mut cache = self.session_cache.lock().await;
        if cache.session.as_ref().is_some_and(|session| Arc::ptr_eq(session, stale)) {
            *cache = SessionCache { session: None, announced_state: announced };
        }
    }
}

impl Source for JmapSource {
    async fn account(&self) -> Result<AccountId, Failure> {
        Ok(self.session().await?.account.clone())
    }

    async fn poll_changes(&self, cursor: &Cursor) -> Result<PollResult, Failure> {
        changes::poll_changes(self, cursor).await
    }

    async fn current_cursor(&self) -> Result<Cursor, Failure> {
        let session = self.session().await?;
        mail::fetch_state(self, &session).await
    }

    async fn list_page(
        &self,
        listing: &Listing,
        page_token: Option<&PageToken>,
    ) -> Result<Page, Failure> {
        match listing {
            Listing::Full => full_list::list_page(self, page_token).await,
            Listing::Since(cursor) => changes::list_page(self, cursor, page_token).await,
        }
    }

    async fn fetch(
        &self,
        document: &DocumentRef,
        sink: &mut impl Sink,
    ) -> Result<FetchOutcome, Failure> {
        download::fetch(self, document, sink).await
    }

    async fn refresh_credential(&self) -> Result<CredentialChange, Failure> {
        let change = self.credential.refresh().await?;
        if change == CredentialChange::Changed {
            // A different credential may belong to a different account.
            *self.session_cache.lock().await = SessionCache::default();
        }
        Ok(change)
    }

    fn blocked_until(&self) -> Option<Timestamp> {
        self.client.blocked_until()
    }
}

impl fmt::Debug for JmapSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JmapSource").field("options", &self.options).finish_non_exhaustive()
    }
}
