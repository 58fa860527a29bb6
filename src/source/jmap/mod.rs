//! Mail over JMAP: RFC 8620 for the protocol, RFC 8621 for mail.
//!
//! Threads are the items, mails their documents. Mails are what is listed, not
//! collapsed threads, so that a listing tells exactly which bytes are new before
//! any of them is fetched. Every request carries one method call: servers differ
//! most in what one bad call does to the others of its batch.

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
use url::{Origin, Url};

use self::session::JmapSession;
use crate::engine::{AccountId, Cursor, ErrorRule, Failure, PageToken, Timestamp};
use crate::source::credential::Credential;
use crate::source::http::{Authorization, HttpClient, ProxyMode, RequestLimiter, RequestLimits};
use crate::source::{
    CredentialChange, DocumentRef, FetchOutcome, Listing, MetricsHandle, Page, PollResult,
    ResponseRecorder, Sink, Source,
};

/// How one account is reached, and what of it is wanted.
#[derive(Clone, Debug)]
pub struct JmapOptions {
    /// The name of the source in the configuration, for sentences about it.
    pub name: String,
    /// The account that the ledger belongs to; the first one found where that is not known yet.
    pub account: Option<AccountId>,
    /// Where the service is found: a bare origin, or the URL of the session resource itself.
    pub url: Url,
    /// Other origins that the server may send us to. The one of `url` need not be named.
    pub allowed_origins: Vec<Origin>,
    pub auth: AuthScheme,
    /// Names, roles or paths (`Parent/Child`) of the only mailboxes wanted; all when empty.
    pub mailboxes: Vec<String>,
    /// Only mail received on or after this day (UTC).
    pub since: Option<NaiveDate>,
    /// How many mails one page lists at most.
    pub page_size_max: u32,
    /// How many documents are fetched side by side.
    pub concurrency: u32,
    pub request_limits: RequestLimits,
    /// What the user knows of the errors of this provider.
    pub error_rules: Vec<ErrorRule>,
    /// How its requests leave this machine.
    pub proxy_mode: ProxyMode,
    /// By what they are counted.
    pub metrics: MetricsHandle,
    /// By what its answers are noted.
    pub recorder: ResponseRecorder,
}

/// How the credential is presented.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum AuthScheme {
    Basic { username: String },
    Bearer,
}

/// One account on a JMAP server.
pub struct JmapSource {
    options: JmapOptions,
    client: HttpClient,
    credential: Credential,
    session_cache: Mutex<SessionCache>,
    /// The one account that is spoken to.
    account: OnceLock<AccountId>,
    download_permits: Semaphore,
}

/// What is remembered between requests.
#[derive(Default)]
struct SessionCache {
    session: Option<Arc<JmapSession>>,
    /// The session state that an answer told of before we looked for it.
    announced_state: Option<String>,
}

impl JmapSource {
    /// Makes the source. Nothing is sent or read before the first request.
    ///
    /// # Errors
    /// As of [`Client::new`].
    pub fn new(
        options: JmapOptions,
        credential: Credential,
        gate: Rc<dyn RequestLimiter>,
    ) -> Result<Self, Failure> {
        let mut trusted = options.allowed_origins.clone();
        trusted.push(options.url.origin());
        let (limits, meter) = (options.request_limits.clone(), options.metrics.clone());
        let client = HttpClient::new(limits, trusted, &options.proxy_mode, gate, meter)?
            .with_error_rules(options.error_rules.clone())
            .with_recorder(options.recorder.clone());
        let at_once = usize::try_from(options.concurrency).unwrap_or(Semaphore::MAX_PERMITS).max(1);
        let account = options.account.clone().map_or_else(OnceLock::new, OnceLock::from);
        Ok(Self {
            options,
            client,
            credential,
            session_cache: Mutex::default(),
            account,
            download_permits: Semaphore::new(at_once),
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

    /// Returns the session, discovering it if it is not known. One discovery at a time.
    async fn session(&self) -> Result<Arc<JmapSession>, Failure> {
        let mut known = self.session_cache.lock().await;
        if let Some(session) = &known.session {
            return Ok(Arc::clone(session));
        }
        let pass = self.authorization().await?;
        let announced = known.announced_state.take();
        let session = session::discover(&self.client, &self.options.url, &pass, announced).await?;
        let expected = self.account.get_or_init(|| session.account.clone());
        if *expected != session.account {
            return Err(Failure::account_changed(&self.options.name, expected, &session.account));
        }
        let session = Arc::new(session);
        known.session = Some(Arc::clone(&session));
        Ok(session)
    }

    /// Forgets a session that has turned out stale, unless somebody was faster.
    async fn invalidate_session(&self, stale: &Arc<JmapSession>, announced: Option<String>) {
        let mut known = self.session_cache.lock().await;
        if known.session.as_ref().is_some_and(|session| Arc::ptr_eq(session, stale)) {
            *known = SessionCache { session: None, announced_state: announced };
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
        place: Option<&PageToken>,
    ) -> Result<Page, Failure> {
        match listing {
            Listing::Full => full_list::list_page(self, place).await,
            Listing::Since(cursor) => changes::list_page(self, cursor, place).await,
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
        let renewal = self.credential.refresh().await?;
        if renewal == CredentialChange::Changed {
            // Another credential may see another account.
            *self.session_cache.lock().await = SessionCache::default();
        }
        Ok(renewal)
    }

    fn blocked_until(&self) -> Option<Timestamp> {
        self.client.blocked_until()
    }
}

impl fmt::Debug for JmapSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Jmap").field("options", &self.options).finish_non_exhaustive()
    }
}
